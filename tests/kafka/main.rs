//! Black-box tests: the built binary against a real Kafka (`scripts/kafka`), judged by readers that share no code with
//! it. `cargo test --release --test kafka` runs them alone; `METERD_TEST_SEED` repeats a run of the random ones.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a test says is shown when it fails")]

mod broker;
mod daemon;
mod follower;
mod http;
mod log;
mod random;
mod simulated;
mod traffic;
mod world;

mod bad_input;
mod brokers;
mod clients;
mod crashes;
mod disk;
mod faults;
mod init;
mod instances;
mod main_job;
mod many_users;
mod recovery;
mod timers;
mod truncated;
mod verify;
mod ways_out;
