//! Errors as an API: every failure has a class that says what its caller does next. Knows no
//! operation in particular; each module has its own error that answers [`Classified::class`].

use std::fmt;

/// What a caller does about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// Nothing happened; the same call may succeed later.
    Retry,
    /// The open transaction is lost: abort it, rewind its tasks, go on.
    Abort,
    /// Another instance has taken over: drop the tasks or the producer, then rejoin.
    Fenced,
    /// This process cannot go on with it: stop, say why, let a person act.
    Fatal,
    /// User code or a record is at fault: the handler of the topology decides.
    User,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorClass::Retry => "retry",
            ErrorClass::Abort => "abort",
            ErrorClass::Fenced => "fenced",
            ErrorClass::Fatal => "fatal",
            ErrorClass::User => "user",
        })
    }
}

/// An error that knows its class.
pub trait Classified {
    /// What the caller does about it.
    fn class(&self) -> ErrorClass;
}

/// Any error of user code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
