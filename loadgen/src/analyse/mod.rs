//! What follows from a result: pure functions over [`RunResult`](crate::model::result::RunResult),
//! and the statistics with which results are compared.

pub mod compare;
pub mod find;
pub mod pace;
pub mod retransmission;
pub mod slo;
pub mod statistics;
pub mod sweep;
pub mod verdict;
