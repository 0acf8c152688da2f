//! Every byte comes back, once, in order, whatever the peer does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::support::{
    connect, on_each_engine, pattern, push_until_full, round_trip, send_all_then_read_all,
};

const ACCEPT_MODES: [&str; 2] = ["reuseport", "shared"];

#[test]
fn half_closed_streams_are_echoed_to_the_last_byte() {
    for accept in ACCEPT_MODES {
        on_each_engine(&["--accept", accept, "--workers", "2"], |server| {
            for len in [0, 1, 64 << 10, 16 << 20] {
                let bytes = pattern(len as u64, len);
                let echo = send_all_then_read_all(connect(server.addr()), &bytes);
                assert!(echo == bytes, "{len} bytes, {} came back", echo.len());
            }
        });
    }
}

#[test]
fn a_reader_that_pauses_gets_everything() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut stream = connect(server.addr());
        let bytes = pattern(3, 16 << 20);
        let mut sender = stream.try_clone().expect("a socket");
        let sent = bytes.clone();
        let sending = thread::spawn(move || {
            sender.write_all(&sent).expect("sent");
            sender.shutdown(Shutdown::Write).expect("half-closed");
        });
        thread::sleep(Duration::from_millis(700));
        let mut echo = Vec::new();
        stream.read_to_end(&mut echo).expect("echoed");
        sending.join().expect("sent");
        assert!(echo == bytes);
    });
}

#[test]
fn slow_readers_do_not_hold_up_the_others() {
    on_each_engine(&["--workers", "1"], |server| {
        let flood = pattern(5, 4 << 20);
        let slow: Vec<TcpStream> = (0..200).map(|_| connect(server.addr())).collect();
        for stream in &slow {
            stream.set_nonblocking(true).expect("a socket");
            push_until_full(stream, &flood);
        }
        let mut normal: Vec<TcpStream> = (0..200).map(|_| connect(server.addr())).collect();
        for round in 0..10 {
            for stream in &mut normal {
                round_trip(stream, &pattern(round, 512));
            }
        }
    });
}

#[test]
fn one_byte_at_a_time() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut stream = connect(server.addr());
        stream.set_nodelay(true).expect("a socket");
        let bytes = pattern(7, 5000);
        let mut sender = stream.try_clone().expect("a socket");
        let sent = bytes.clone();
        let sending = thread::spawn(move || {
            sent.iter().for_each(|byte| sender.write_all(&[*byte]).expect("sent"));
        });
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).expect("echoed");
        sending.join().expect("sent");
        assert_eq!(echo, bytes);
    });
}

#[test]
fn pipelined_small_messages_come_back_as_one_stream() {
    on_each_engine(&["--workers", "1"], |server| {
        let bytes = pattern(11, 64 * 1000);
        let mut stream = connect(server.addr());
        for message in bytes.chunks(64) {
            stream.write_all(message).expect("sent");
        }
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).expect("echoed");
        assert_eq!(echo, bytes);
    });
}

#[test]
fn peers_that_vanish_leave_nothing_behind() {
    on_each_engine(&["--workers", "1"], |server| {
        let bytes = pattern(13, 1 << 20);
        for round in 0..200 {
            let mut stream = connect(server.addr());
            if round % 2 == 0 {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
            }
            if round % 3 != 0 {
                stream.write_all(&bytes[..round * 100 + 1]).expect("sent");
            }
        }
        round_trip(&mut connect(server.addr()), b"still serving");
    });
}

#[test]
fn two_thousand_connections_at_once() {
    on_each_engine(&["--workers", "2"], |server| {
        let mut streams: Vec<TcpStream> = (0..2000).map(|_| connect(server.addr())).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            round_trip(stream, &pattern(index as u64, 100));
        }
    });
}

/// A read stops at the mark of urgent data, though more of the stream is behind it.
#[test]
fn what_is_behind_urgent_data_comes_back_too() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut stream = connect(server.addr());
        round_trip(&mut stream, b"before");
        let socket = SockRef::from(&stream);
        // Held, so that the server finds all three at once.
        server.pause();
        assert_eq!(socket.send(b"abc").expect("sent"), 3);
        assert_eq!(socket.send_out_of_band(b"!").expect("sent"), 1);
        assert_eq!(socket.send(b"defghi").expect("sent"), 6);
        server.resume();
        let mut echo = [0; 9];
        stream.read_exact(&mut echo).expect("echoed");
        assert_eq!(&echo, b"abcdefghi");
    });
}
