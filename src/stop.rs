//! Why the daemon must stop, with the exit code that says so (docs/reference.md 11.6).

use std::fmt;

/// A fault that threatens correctness, or that only a person can end. Never an outcome of bad input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub code: u8,
    /// What was expected, what was found, what to do.
    pub message: String,
}

impl Stop {
    /// 65: data that is damaged, or that disagrees with itself.
    pub fn data(message: impl Into<String>) -> Stop {
        Stop { code: 65, message: message.into() }
    }

    /// 69: the broker cannot be reached or does not answer.
    pub fn broker(message: impl Into<String>) -> Stop {
        Stop { code: 69, message: message.into() }
    }

    /// Whether it may pass by itself, once the brokers are back.
    pub fn is_broker(&self) -> bool {
        self.code == 69
    }

    /// Whether it says that data is damaged.
    pub fn is_data(&self) -> bool {
        self.code == 65
    }

    /// 70: an invariant failed, or a fault that is not classified.
    pub fn bug(message: impl Into<String>) -> Stop {
        Stop { code: 70, message: message.into() }
    }

    /// 74: the disk.
    pub fn io(message: impl Into<String>) -> Stop {
        Stop { code: 74, message: message.into() }
    }

    /// 78: configuration, topics, or another process in this one's place.
    pub fn config(message: impl Into<String>) -> Stop {
        Stop { code: 78, message: message.into() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}
