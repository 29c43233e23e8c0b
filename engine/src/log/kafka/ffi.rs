//! Calls of librdkafka that its safe Rust layer lacks. The one module of the workspace with unsafe
//! code: it turns pointers into owned, checked values and decides nothing. Must not know what the
//! engine does.

#![expect(unsafe_code, reason = "librdkafka is C, and its safe layer lacks these calls")]

pub(super) mod group;
