//! Bytes as they stand in addresses and in JSON: percent escapes, base64, and the field pairs
//! `key`/`keyBase64` and `value`/`valueBase64`. Knows no store and no topic.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde_json::{Map, Value as Json};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// Reads base64, of either alphabet, padded or not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let url = text.contains(['-', '_']);
    if url { URL.decode(text).ok() } else { PLAIN.decode(text).ok() }
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Base64 that can stand in an address as it is.
pub(super) fn to_url_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Undoes percent escapes, in a query string also `+`; `None` if an escape is broken or what comes
/// out is no UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = rest.get(..2)?;
                rest = &rest[2..];
                let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(digits[0])? << 4 | digit(digits[1])?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Sets `name` to the JSON form, or, when there is none, `nameBase64` to the bytes.
pub(super) fn put_either(into: &mut Map<String, Json>, name: &str, json: Option<Json>, raw: &[u8]) {
    match json {
        Some(json) => into.insert(name.to_owned(), json),
        None => into.insert(format!("{name}Base64"), Json::from(to_base64(raw))),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_escapes_and_escapes_of_no_text_are_refused() {
        assert_eq!(percent_decode("a%20b+c%2F").as_deref(), Some("a b c/"));
        assert_eq!(percent_decode("%C3%A9").as_deref(), Some("\u{e9}"));
        for broken in ["%", "%4", "%zz", "%+1", "%FF"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn base64_is_read_in_both_alphabets_with_and_without_padding() {
        for text in ["+/8=", "+/8", "-_8", "-_8="] {
            assert_eq!(from_base64(text), Some(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(from_base64("a!"), None);
        assert_eq!(from_base64("+_8"), None);
    }
}
