//! What follows from a result: pure functions over [`RunResult`](crate::model::result::RunResult),
//! and the statistics with which results are compared.

mod causes;
pub mod compare;
pub mod find;
pub mod overview;
pub mod pace;
pub mod queue_waits;
pub mod slo;
pub mod statistics;
pub mod sweep;
pub mod verdict;
pub mod watch;
