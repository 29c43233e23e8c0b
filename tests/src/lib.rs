//! Test support, shared by every suite under `tests/tests/`: the project's own sources as text,
//! repeated proofs and their seeds, child processes to crash. It knows no topology and judges
//! nothing; the suites do.

pub mod child;
pub mod proof;
pub mod source;
