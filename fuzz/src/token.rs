//! `user_data` of a completion: any 64 bits.

use uring_echo::ring::{Op, Token};

const OPS: [Op; 8] =
    [Op::Call, Op::Accept, Op::Recv, Op::Send, Op::Close, Op::Cancel, Op::Wake, Op::Connect];

/// Decoding is total and exact, and whatever was encoded is found again.
pub fn run(data: &[u8]) {
    for bytes in data.chunks(8) {
        let mut bits = [0; 8];
        bits[..bytes.len()].copy_from_slice(bytes);
        let [a, b, c, d, e, f, g, h] = bits;
        check_decoding(u64::from_le_bytes(bits));
        check_encoding(u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    }
}

fn check_decoding(bits: u64) {
    match Token::decode(bits) {
        Some(token) => assert_eq!(token.encode(), bits, "{token:?}"),
        None => assert!(OPS.iter().all(|op| *op as u64 != bits >> 60), "{bits:#x} is a token"),
    }
}

fn check_encoding(index: u32, generation: u32) {
    for op in OPS {
        let token = Token::new(op, index, generation);
        assert_eq!(Token::decode(token.encode()), Some(token));
        assert_eq!((token.op(), token.index()), (op, index));
        assert_eq!(token.generation(), generation % Token::GENERATIONS);
    }
}
