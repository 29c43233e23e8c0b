//! Variable-length integers as Kafka and Protocol Buffers write them: seven bits a byte, lowest
//! first, the top bit set on all bytes but the last; signed numbers in zigzag. Must not know what
//! the numbers mean.

/// Appends `value`, one to ten bytes.
#[inline]
pub(crate) fn write(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    into.push(low_byte(value));
}

/// How many bytes [`write`] appends for `value`.
#[inline]
pub(crate) fn len(value: u64) -> usize {
    // A number of n significant bits takes ceil(n / 7) bytes, zero takes one.
    let bits = u64::BITS - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("ten at most")
}

/// Reads a number at `*at` and moves `*at` behind it. `None`, with `*at` unchanged, if the bytes end
/// too early or the number passes 64 bits.
#[inline]
pub(crate) fn read(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    read_long(bytes, at)
}

fn read_long(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in bytes.get(*at..)?.iter().take(10).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shift = 7 * index;
        if index == 9 && group > 1 {
            return None;
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            *at += index + 1;
            return Some(value);
        }
    }
    None
}

/// Maps small numbers of either sign to small unsigned ones: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The reverse of [`zigzag`].
#[inline]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[inline]
fn low_byte(value: u64) -> u8 {
    let [.., byte] = value.to_be_bytes();
    byte
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(value, &mut bytes);
        bytes
    }

    #[test]
    fn known_numbers_have_their_known_bytes() {
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [127]);
        assert_eq!(written(300), [0xac, 0x02]);
        assert_eq!(written(u64::MAX).len(), 10);
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut at = 0;
        assert_eq!(read(&[0xff; 10], &mut at), None);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &mut at), None);
        assert_eq!(at, 0);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let bytes = written(value);
            let mut at = 0;
            prop_assert_eq!(read(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
            prop_assert_eq!(len(value), bytes.len());
            let mut cut = 0;
            prop_assert_eq!(read(&bytes[..bytes.len() - 1], &mut cut), None);
        }

        #[test]
        fn zigzag_and_back_is_the_identity(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
