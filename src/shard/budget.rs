//! The memory that the accounts of all partitions together may take before those that are not used grow cold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A share is told to the others once it changed by so much.
const TELL_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
}

/// What one partition's accounts take; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    told: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, used: AtomicUsize::new(0) })
    }

    /// The share of another partition, which takes nothing yet.
    pub fn share(self: &Arc<Budget>) -> Share {
        Share { budget: Arc::clone(self), told: 0 }
    }
}

impl Share {
    /// Notes what the partition's accounts take now.
    pub fn set(&mut self, bytes: usize) {
        if bytes.abs_diff(self.told) >= TELL_BYTES {
            self.tell(bytes);
        }
    }

    /// More is used than there is.
    pub fn is_short(&self) -> bool {
        self.budget.used.load(Ordering::Relaxed) > self.budget.bytes_max
    }

    fn tell(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.told, Ordering::Relaxed);
        self.told = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.tell(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(1 << 20);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(600 << 10);
        assert!(!other.is_short());
        other.set(500 << 10);
        assert!(one.is_short());
        drop(other);
        assert!(!one.is_short());
    }
}
