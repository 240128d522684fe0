//! A naive, obviously correct second model of meterd's domain (docs/reference.md sections 3 to 10, 12.1, 13 and 16):
//! linear scans, big rationals, nothing cached. `meterd simulate` is compared with it, record by record.

pub mod account;
pub mod catalog;
pub mod commands;
pub mod compare;
pub mod decode;
pub mod generate;
pub mod grants;
pub mod json;
pub mod limits;
pub mod model;
pub mod num;
pub mod orders;
mod orders_stream;
pub mod periods;
pub mod price;
pub mod scenario;
pub mod simulate;
pub mod step;
pub mod stream;
pub mod time;
pub mod timers;
pub mod usage;
pub mod view;
