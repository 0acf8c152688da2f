//! The payload of a histogram in a result: HdrHistogram V2, DEFLATE, base64.
//!
//! Decoded here and not by the crate, which reserves whatever memory a payload claims to need and
//! always fills a whole histogram: a result has thousands of payloads with some hundred samples
//! each, and a file may come from anywhere.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;

use super::{DIGITS, HIGHEST_NS, HistogramError, LOWEST_NS};

/// The first four bytes of a compressed histogram (AbstractHistogram.java of HdrHistogram).
pub(super) const V2_COMPRESSED_COOKIE: u32 = 0x1c84_9314;
/// The first four bytes of what was compressed.
const V2_COOKIE: u32 = 0x1c84_9313;
/// Two times 10^[`DIGITS`], rounded up to a power of two, in bits.
const SUB_BUCKET_BITS: u32 = 11;
/// More than the counts of every bucket take at nine bytes each.
const COUNTS_MAX: u64 = 1 << 19;

/// A value of a histogram, and how many samples have it; ascending in a list.
pub type Count = (u64, u64);

/// Every value with samples.
pub(super) fn decode(base64: &str) -> Result<Vec<Count>, HistogramError> {
    let bytes = STANDARD.decode(base64).map_err(|error| damaged(&error))?;
    let mut head = &bytes[..];
    if number::<4>(&mut head)? != u64::from(V2_COMPRESSED_COOKIE) {
        return Err(damaged(&"no compressed HdrHistogram V2"));
    }
    let length = number::<4>(&mut head)?;
    let mut inflated = ZlibDecoder::new(head.take(length));
    let counts_length = header(&mut inflated)?;
    let mut counts = Vec::new();
    inflated.take(counts_length).read_to_end(&mut counts).map_err(|error| damaged(&error))?;
    if counts.len() as u64 != counts_length {
        return Err(damaged(&"it ends in the middle"));
    }
    values(&counts)
}

/// The length of the counts.
fn header(from: &mut impl Read) -> Result<u64, HistogramError> {
    let cookie = number::<4>(from)?;
    let length = number::<4>(from)?;
    let offset = number::<4>(from)?;
    let digits = number::<4>(from)?;
    let (low, high) = (number::<8>(from)?, number::<8>(from)?);
    let ratio = f64::from_bits(number::<8>(from)?);
    if cookie != u64::from(V2_COOKIE) || offset != 0 || (ratio - 1.0).abs() > f64::EPSILON {
        return Err(damaged(&"no HdrHistogram V2 of whole numbers"));
    }
    let digits = u8::try_from(digits).map_err(|error| damaged(&error))?;
    if (low, high, digits) != (LOWEST_NS, HIGHEST_NS, DIGITS) {
        return Err(HistogramError::Bounds { low, high, digits });
    }
    if length > COUNTS_MAX {
        return Err(damaged(&"it claims more counts than there are buckets"));
    }
    Ok(length)
}

/// A big-endian number of `N` bytes.
fn number<const N: usize>(from: &mut impl Read) -> Result<u64, HistogramError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(|error| damaged(&error))?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A count for each bucket in turn; a negative one is so many empty buckets.
fn values(mut counts: &[u8]) -> Result<Vec<Count>, HistogramError> {
    let mut values = Vec::new();
    let mut index: u64 = 0;
    while !counts.is_empty() {
        let count = zigzag(varint(&mut counts)?);
        match u64::try_from(count) {
            Ok(0) => index += 1,
            Ok(count) => {
                values.push((value_at(index).ok_or_else(|| damaged(&BEYOND))?, count));
                index += 1;
            }
            Err(_) => index = index.saturating_add(count.unsigned_abs()),
        }
    }
    Ok(values)
}

const BEYOND: &str = "it has samples beyond its bounds";

/// Little-endian groups of seven bits; the ninth byte has eight (ZigZagEncoding.java).
fn varint(from: &mut &[u8]) -> Result<u64, HistogramError> {
    let mut number = 0;
    for (at, byte) in from.iter().take(9).enumerate() {
        let last = at == 8;
        let bits = if last { *byte } else { byte & 0x7f };
        number |= u64::from(bits) << (7 * at);
        if last || byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return Ok(number);
        }
    }
    Err(damaged(&"it ends in the middle of a number"))
}

fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// The lowest value of a bucket; `None` beyond the bounds.
fn value_at(index: u64) -> Option<u64> {
    let half = 1 << (SUB_BUCKET_BITS - 1);
    let value = match (index / half).checked_sub(1) {
        None => index,
        Some(bucket) => (index % half + half).checked_shl(u32::try_from(bucket).ok()?)?,
    };
    (value <= HIGHEST_NS).then_some(value)
}

fn damaged(error: &dyn std::fmt::Display) -> HistogramError {
    HistogramError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
    use proptest::prelude::*;

    use super::super::{Summary, new_histogram};
    use super::*;

    fn encoded(histogram: &Histogram<u64>) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).unwrap();
        STANDARD.encode(bytes)
    }

    proptest! {
        #[test]
        fn the_crate_and_this_module_read_the_same(
            samples in proptest::collection::vec((0..=HIGHEST_NS, 1..u64::MAX / 64), 0..60),
            shift in 0..38u32,
        ) {
            let mut histogram = new_histogram();
            for (value, count) in samples {
                histogram.record_n(value >> shift, count).unwrap();
            }
            let hdr_v2_deflate_base64 = encoded(&histogram);
            let ours = Summary { hdr_v2_deflate_base64, ..Summary::of(&histogram) };
            let ours = ours.histogram().unwrap();
            let bytes = STANDARD.decode(encoded(&histogram)).unwrap();
            let theirs: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!((ours.min(), ours.max()), (theirs.min(), theirs.max()));
            prop_assert_eq!(ours, histogram);
        }
    }

    /// A payload with this header and these counts, compressed.
    fn payload(fields: [u32; 4], low: u64, high: u64, counts: &[u8]) -> String {
        use std::io::Write;
        let mut plain: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        [low, high, 1f64.to_bits()].iter().for_each(|n| plain.extend(n.to_be_bytes()));
        plain.extend(counts);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).unwrap();
        let deflated = zlib.finish().unwrap();
        let length = u32::try_from(deflated.len()).unwrap();
        let head = [V2_COMPRESSED_COOKIE.to_be_bytes(), length.to_be_bytes()].concat();
        STANDARD.encode([head, deflated].concat())
    }

    #[test]
    fn payloads_that_claim_too_much_are_refused_before_memory_is_reserved() {
        let claims = |length, counts: &[u8]| {
            let fields = [V2_COOKIE, length, 0, DIGITS.into()];
            decode(&payload(fields, LOWEST_NS, HIGHEST_NS, counts)).unwrap_err().to_string()
        };
        assert!(claims(u32::MAX, &[]).contains("more counts than"));
        assert!(claims(100, &[2]).contains("ends in the middle"));
        // 2^40 empty buckets, then one sample.
        assert!(claims(7, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 2]).contains("beyond its bounds"));
        assert!(claims(1, &[0x80]).contains("middle of a number"));
        let other = decode(&payload([V2_COOKIE, 0, 0, 5], 1, u64::MAX, &[])).unwrap_err();
        assert!(matches!(other, HistogramError::Bounds { digits: 5, .. }), "{other}");
    }
}
