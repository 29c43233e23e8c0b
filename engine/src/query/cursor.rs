//! Where a page ended, as an opaque text that asks for the next one. Owns the form and that a cursor
//! answers only the question it came from; knows nothing of stores.
//!
//! ```text
//! base64url( version u8 | fingerprint u32 | position ... )
//! ```
//!
//! A cursor is no secret and no promise: whoever forges one gets rows he could have asked for anyway.

use super::encoding::{from_base64, to_url_base64};
use super::error::{Problem, QueryError};
use crate::serde::kafka_streams::murmur2;

const VERSION: u8 = 1;
const HEAD: usize = 5;

/// Tells questions apart, so that a cursor of one is not taken for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u32);

impl Fingerprint {
    /// Of the parts that make up the question, without its limit.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut all = Vec::new();
        for part in parts {
            all.extend_from_slice(&part.len().to_be_bytes());
            all.extend_from_slice(part);
        }
        Self(murmur2(&all))
    }
}

/// The cursor of a position.
pub(super) fn encode(question: Fingerprint, position: &[u8]) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&question.0.to_be_bytes());
    bytes.extend_from_slice(position);
    to_url_base64(&bytes)
}

/// The position of a cursor.
pub(super) fn decode(question: Fingerprint, cursor: &str) -> Result<Vec<u8>, QueryError> {
    let bytes = from_base64(cursor).ok_or_else(damaged)?;
    match bytes.split_at_checked(HEAD) {
        Some(([VERSION, fingerprint @ ..], position)) => {
            if *fingerprint == question.0.to_be_bytes() {
                Ok(position.to_vec())
            } else {
                let detail = "the cursor belongs to another question; change nothing but the limit \
                              between pages, or ask without cursor";
                Err(QueryError::new(Problem::InvalidCursor, detail))
            }
        }
        _ => Err(damaged()),
    }
}

/// A cursor that this server never gave.
pub(super) fn damaged() -> QueryError {
    let detail =
        "the cursor is damaged; use `nextCursor` of the last page as it is, or ask without";
    QueryError::new(Problem::InvalidCursor, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_answers_only_its_own_question() {
        let (mine, other) = (Fingerprint::of(&[b"a", b"b"]), Fingerprint::of(&[b"ab", b""]));
        let cursor = encode(mine, &[1, 2, 3]);
        assert_eq!(decode(mine, &cursor), Ok(vec![1, 2, 3]));
        for (question, text) in [(other, cursor.as_str()), (mine, ""), (mine, "AA"), (mine, "!")] {
            let error = decode(question, text).expect_err("no cursor of this question");
            assert_eq!(error.problem, Problem::InvalidCursor);
        }
    }
}
