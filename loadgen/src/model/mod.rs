//! What a run leaves as data, and pure functions over it.

pub mod result;
