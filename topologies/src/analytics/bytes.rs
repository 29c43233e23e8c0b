//! Compact numbers of the rollup's binary form.
//!
//! Owns variable-length integers (seven bits a byte, low bits first) and doubles (IEEE bits, high
//! byte first). It must not know what the numbers mean.

/// Why stored bytes cannot be read.
///
/// The store is damaged or was written by a newer version; no retry helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored rollup is unreadable at byte {at}: {reason}")]
pub struct DecodeError {
    /// Position of the first byte that could not be used.
    pub at: usize,
    /// What was expected there.
    pub reason: &'static str,
}

/// Appends `number` in one to ten bytes.
pub(crate) fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(low_seven_bits(number) | 0x80);
        number >>= 7;
    }
    out.push(low_seven_bits(number));
}

fn low_seven_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7f).expect("seven bits fit a byte")
}

/// Appends a double.
pub(crate) fn write_double(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_bits().to_be_bytes());
}

/// Reads what the writers above wrote.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError { at: self.at, reason }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(self.error("another byte is missing"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        // Most numbers of a sketch are small.
        if let Some(byte) = self.bytes.get(self.at).filter(|byte| **byte < 0x80) {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.error("a number is longer than 64 bits"))
    }

    pub(crate) fn double(&mut self) -> Result<f64, DecodeError> {
        let rest = &self.bytes[self.at..];
        let bits = rest.first_chunk().ok_or(self.error("a double is cut short"))?;
        self.at += bits.len();
        let number = f64::from_bits(u64::from_be_bytes(*bits));
        if number.is_finite() { Ok(number) } else { Err(self.error("a double is not finite")) }
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.error("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_back(numbers in prop::collection::vec(any::<u64>(), 0..20)) {
            let mut bytes = Vec::new();
            for number in &numbers {
                write_number(*number, &mut bytes);
            }
            let mut reader = Reader::new(&bytes);
            for number in &numbers {
                prop_assert_eq!(reader.number(), Ok(*number));
            }
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn cut_and_overlong_numbers_are_refused() {
        assert!(Reader::new(&[0x80]).number().is_err());
        assert!(Reader::new(&[0xff; 11]).number().is_err());
        assert!(Reader::new(&[0; 7]).double().is_err());
        assert!(Reader::new(&f64::NAN.to_bits().to_be_bytes()).double().is_err());
    }
}
