//! What the errors of an input's client leave to be done later.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

/// The client looks for the ends again at most this often: doing so drops what it has fetched.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// How long a topic may be unknown to brokers that come and go, until the brokers are asked for it.
const MISSING_MAX: Duration = Duration::from_secs(60);
const LOG_EVERY: Duration = Duration::from_secs(60);

pub struct Trouble {
    refreshed: Instant,
    refresh_due: bool,
    /// When the client said that the topic does not exist.
    missing: Option<Instant>,
    /// When each code was logged last.
    logged: Vec<(RDKafkaErrorCode, Instant)>,
}

impl Trouble {
    pub fn new(now: Instant) -> Trouble {
        Trouble { refreshed: now, refresh_due: false, missing: None, logged: Vec::new() }
    }

    /// An error after which the client goes on. True: it is to be logged.
    pub fn met(&mut self, code: RDKafkaErrorCode, now: Instant) -> bool {
        self.refresh_due = true;
        if matches!(
            code,
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        ) {
            self.missing.get_or_insert(now);
        }
        match self.logged.iter_mut().find(|(logged, _)| *logged == code) {
            Some((_, at)) if now - *at < LOG_EVERY => return false,
            Some((_, at)) => *at = now,
            None => self.logged.push((code, now)),
        }
        true
    }

    /// Whether the client must look for the ends again now.
    pub fn takes_refresh(&mut self, now: Instant) -> bool {
        if !self.refresh_due || now - self.refreshed < REFRESH_EVERY {
            return false;
        }
        self.refresh_due = false;
        self.refreshed = now;
        true
    }

    /// Whether the brokers must be asked now if there is such a topic; again after as long, if the client says so again.
    pub fn takes_missing(&mut self, now: Instant) -> bool {
        self.missing.take_if(|since| now - *since >= MISSING_MAX).is_some()
    }

    /// The brokers gave no answer: they are asked again later.
    pub fn still_missing(&mut self, now: Instant) {
        self.missing = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begun: Instant, ms: u64) -> Instant {
        begun + Duration::from_millis(ms)
    }

    #[test]
    fn an_error_soon_after_another_has_its_refresh_later() {
        let begun = Instant::now();
        let mut trouble = Trouble::new(begun);
        assert!(!trouble.takes_refresh(after(begun, 5_000)), "no error, no refresh");
        trouble.met(RDKafkaErrorCode::BrokerTransportFailure, after(begun, 5_000));
        assert!(trouble.takes_refresh(after(begun, 5_000)));
        trouble.met(RDKafkaErrorCode::BrokerTransportFailure, after(begun, 5_300));
        assert!(!trouble.takes_refresh(after(begun, 5_900)));
        assert!(trouble.takes_refresh(after(begun, 6_000)));
        assert!(!trouble.takes_refresh(after(begun, 9_000)));
    }

    #[test]
    fn each_code_is_logged_once_a_minute() {
        let begun = Instant::now();
        let mut trouble = Trouble::new(begun);
        assert!(trouble.met(RDKafkaErrorCode::BrokerTransportFailure, begun));
        assert!(trouble.met(RDKafkaErrorCode::AllBrokersDown, begun));
        assert!(!trouble.met(RDKafkaErrorCode::BrokerTransportFailure, after(begun, 59_000)));
        assert!(trouble.met(RDKafkaErrorCode::BrokerTransportFailure, after(begun, 60_000)));
    }

    #[test]
    fn a_missing_topic_is_asked_for_after_a_minute() {
        let begun = Instant::now();
        let mut trouble = Trouble::new(begun);
        trouble.met(RDKafkaErrorCode::BrokerTransportFailure, begun);
        assert!(!trouble.takes_missing(after(begun, 100_000)));
        trouble.met(RDKafkaErrorCode::UnknownTopicOrPartition, after(begun, 100_000));
        trouble.met(RDKafkaErrorCode::UnknownTopicOrPartition, after(begun, 150_000));
        assert!(!trouble.takes_missing(after(begun, 159_000)));
        assert!(trouble.takes_missing(after(begun, 160_000)));
        assert!(!trouble.takes_missing(after(begun, 300_000)), "it was there");
        trouble.still_missing(after(begun, 300_000));
        assert!(trouble.takes_missing(after(begun, 360_000)));
    }
}
