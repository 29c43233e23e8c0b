//! Typed parameters of a route, from path and query string. Owns the kinds, their forms and bounds,
//! and that nothing unknown is passed over in silence. Knows no route.

use std::collections::BTreeMap;

use super::encoding::percent_decode;
use super::error::{Problem, QueryError};

/// Rows of a page when nothing is said.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// Rows of a page at most.
pub(super) const LIMIT_MAX: usize = 1_000;

/// What a parameter's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text.
    Text,
    /// A whole number that is not negative and fits 64 signed bits.
    Number,
    /// A time: milliseconds since 1970, also negative, or RFC 3339 (`2026-11-21T10:00:00Z`).
    Time,
    /// Rows of a page, 1 to 1,000; 100 when absent.
    Limit,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A parameter of a route: its name, kind, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// The name.
    pub name: &'static str,
    /// What its value must be.
    pub kind: ParameterKind,
    /// It must be given.
    pub required: bool,
    /// What it is for, in a few words.
    pub about: &'static str,
}

impl Parameter {
    /// A parameter that may be absent.
    pub const fn optional(name: &'static str, kind: ParameterKind, about: &'static str) -> Self {
        Self { name, kind, required: false, about }
    }

    /// A parameter that must be given.
    pub const fn required(name: &'static str, kind: ParameterKind, about: &'static str) -> Self {
        Self { name, kind, required: true, about }
    }

    fn read(&self, text: String) -> Result<Given, QueryError> {
        let refused = |why: String| Err(QueryError::parameter(self.name, why));
        match self.kind {
            ParameterKind::Text => Ok(Given::Text(text)),
            ParameterKind::Number => match text.parse() {
                Ok(number @ 0..) => Ok(Given::Number(number)),
                _ => refused(format!("is `{text}`; give a whole number from 0 to {}", i64::MAX)),
            },
            ParameterKind::Time => match read_time(&text) {
                Some(millis) => Ok(Given::Number(millis)),
                None => refused(format!(
                    "is `{text}`; give milliseconds since 1970, or a time like 2026-11-21T10:00:00Z"
                )),
            },
            ParameterKind::Limit => match text.parse::<usize>() {
                Ok(limit @ 1..=LIMIT_MAX) => Ok(Given::Limit(limit)),
                _ => refused(format!("is `{text}`; give a number from 1 to {LIMIT_MAX}")),
            },
            ParameterKind::Word(words) => match words.contains(&text.as_str()) {
                true => Ok(Given::Text(text)),
                false => refused(format!("is `{text}`; give one of {}", words.join(", "))),
            },
        }
    }
}

/// Milliseconds as they are, or RFC 3339.
fn read_time(text: &str) -> Option<i64> {
    if let Ok(millis) = text.parse() {
        return Some(millis);
    }
    // In a query string `+` is a space; after a `T` a space can only have been the offset's sign.
    let text = if text.contains('T') { text.replace(' ', "+") } else { text.to_owned() };
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    Text(String),
    Number(i64),
    Limit(usize),
}

/// The parameters of one request, checked against what its route declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    given: BTreeMap<String, Given>,
}

impl Parameters {
    /// Checks what was given. Parameters in the path need no declaration; they are text then.
    pub(super) fn read(
        path: Vec<(String, String)>,
        query: Option<&str>,
        declared: &[Parameter],
    ) -> Result<Self, QueryError> {
        let mut given = BTreeMap::new();
        let find = |name: &str| declared.iter().find(|parameter| parameter.name == name);
        for (name, text) in path {
            let value = match find(&name) {
                Some(parameter) => parameter.read(text)?,
                None => Given::Text(text),
            };
            given.insert(name, value);
        }
        let in_path: Vec<String> = given.keys().cloned().collect();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode(name).unwrap_or_else(|| name.to_owned());
            let parameter = find(&name).filter(|_| !in_path.contains(&name)).ok_or_else(|| {
                let known: Vec<&str> = declared.iter().map(|p| p.name).collect();
                let known = match known.as_slice() {
                    [] => "none".to_owned(),
                    names => names.join(", "),
                };
                let detail = format!("there is no parameter `{name}` here; there is: {known}");
                QueryError::new(Problem::UnknownParameter, detail)
            })?;
            let text = percent_decode(text).ok_or_else(|| {
                QueryError::parameter(&name, "has a broken percent escape or is not UTF-8")
            })?;
            if given.insert(name.clone(), parameter.read(text)?).is_some() {
                return Err(QueryError::parameter(&name, "is given twice; give it once"));
            }
        }
        match declared.iter().find(|p| p.required && !given.contains_key(p.name)) {
            None => Ok(Self { given }),
            Some(missing) => Err(QueryError::new(
                Problem::MissingParameter,
                format!("parameter `{}` must be given: {}", missing.name, missing.about),
            )),
        }
    }

    /// The text of a parameter of kind `Text` or `Word`, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.given.get(name) {
            Some(Given::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The text of a parameter that must be there.
    ///
    /// # Errors
    /// `MissingParameter`, which cannot happen for one that is declared as required.
    pub fn required_text(&self, name: &str) -> Result<&str, QueryError> {
        let missing = || {
            let detail = format!("parameter `{name}` must be given");
            QueryError::new(Problem::MissingParameter, detail)
        };
        self.text(name).ok_or_else(missing)
    }

    /// The value of a parameter of kind `Number` or `Time`, if it was given.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.given.get(name) {
            Some(Given::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The bounds of time given by two parameters of kind `Time`, both included; an absent one is
    /// open.
    ///
    /// # Errors
    /// `InvalidParameter` when the first lies after the second.
    pub fn times(&self, from: &str, to: &str) -> Result<(i64, i64), QueryError> {
        let (first, last) = (self.number(from).unwrap_or(0), self.number(to).unwrap_or(i64::MAX));
        if first > last {
            let why = format!("({first}) lies after parameter `{to}` ({last})");
            return Err(QueryError::parameter(from, why));
        }
        Ok((first, last))
    }

    /// The rows of a page: what a parameter of kind `Limit` says, or the default.
    pub fn limit(&self) -> usize {
        let limits = self.given.values().find_map(|given| match given {
            Given::Limit(limit) => Some(*limit),
            _ => None,
        });
        limits.unwrap_or(LIMIT_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &[Parameter] = &[
        Parameter::required("key", ParameterKind::Text, "the key"),
        Parameter::optional("from", ParameterKind::Time, "the first start"),
        Parameter::optional("to", ParameterKind::Time, "the last start"),
        Parameter::optional("limit", ParameterKind::Limit, "rows of a page"),
    ];

    fn read(query: &str) -> Result<Parameters, QueryError> {
        Parameters::read(Vec::new(), Some(query), DECLARED)
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339_in_any_offset() {
        for (text, millis) in [
            ("0", 0),
            ("-5", -5),
            ("1970-01-01T00:00:01.500Z", 1_500),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T01%3A00%3A00%2B01%3A00", 0),
            ("9223372036854775807", i64::MAX),
        ] {
            let query = format!("key=a&from={text}");
            assert_eq!(read(&query).expect("a time").number("from"), Some(millis), "{text}");
        }
        for text in ["", "soon", "1.5", "9223372036854775808", "2026-13-01T00:00:00Z"] {
            let error = read(&format!("key=a&from={text}")).expect_err("no time");
            assert_eq!(error.problem, Problem::InvalidParameter, "{text}");
            assert!(error.detail.contains("`from`"), "{error}");
        }
    }

    #[test]
    fn what_is_unknown_missing_or_given_twice_is_named() {
        let problem = |query| {
            let error = read(query).expect_err("a mistake");
            (error.problem, error.detail)
        };
        let (kind, detail) = problem("key=a&colour=red");
        assert_eq!(kind, Problem::UnknownParameter);
        assert!(detail.contains("`colour`") && detail.contains("limit"), "{detail}");
        assert_eq!(problem("from=1").0, Problem::MissingParameter);
        assert_eq!(problem("key=a&key=b").0, Problem::InvalidParameter);
        assert_eq!(problem("key=%FF").0, Problem::InvalidParameter);
        assert_eq!(problem("key=a&limit=0").0, Problem::InvalidParameter);
        assert_eq!(problem("key=a&limit=1001").0, Problem::InvalidParameter);
    }

    #[test]
    fn a_query_string_cannot_override_the_path() {
        let path = vec![("key".to_owned(), "a".to_owned())];
        let error = Parameters::read(path, Some("key=b"), DECLARED).expect_err("a second key");
        assert_eq!(error.problem, Problem::UnknownParameter);
    }

    #[test]
    fn bounds_that_cross_are_refused() {
        let asked = read("key=a&from=2&to=1").expect("two times");
        assert_eq!(asked.times("from", "to").expect_err("they cross").problem.status(), 400);
        assert_eq!(read("key=a").expect("no time").times("from", "to"), Ok((0, i64::MAX)));
    }
}
