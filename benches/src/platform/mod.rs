//! The parts of the bench `platform_load`: what is sent ([`traffic`]), what is measured
//! ([`gauge`]), and what has to have come of it ([`checker`]).

pub mod checker;
pub mod gauge;
pub mod traffic;
