//! Interleavings that seeds rarely draw, each told step by step: what commits and recovers, on topics in memory, and what
//! others do in between. `scripts/planted` shows of most that they can fail.

mod clocks;
mod commits;
mod late;
mod owner;
mod recovery;
mod shards;
mod store;
mod topics;
