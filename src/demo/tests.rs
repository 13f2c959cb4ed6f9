use std::time::{Duration, Instant};

use super::play;
use super::record::{Record, Step};
use super::stage::Stage;
use crate::cli::Failure;
use crate::cli::https_client::Answer;
use crate::cli::remote::Api;
use crate::domain::Timestamp;

fn step(row: &'static str, expected: &str, got: &str) -> Step {
    let took = Duration::from_micros(1_500);
    Step { row, story: "s".into(), ask: "a".into(), expected: expected.into(), got: got.into(), took }
}

#[test]
fn one_expectation_that_did_not_hold_is_enough_to_fail() {
    let mut record = Record::new(false);
    assert!(!record.all_held(), "nothing shown is nothing held");
    let mut out = Vec::new();
    record.take(step("S1", "allowed", "allowed"), &mut out).unwrap();
    assert!(record.all_held());
    record.take(step("S1", "inactive", "allowed"), &mut out).unwrap();
    assert!(!record.all_held());
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("S1  limit what an app may do").count(), 1, "one heading a row: {text}");
    assert!(text.contains("FAIL") && text.contains("expected  inactive") && text.contains("(1.5 ms)"), "{text}");
    assert!(record.summary(Duration::from_secs(1)).contains("1 of 2 expectations did NOT hold"));
}

/// A server that says inactive to everything, takes every change, and never dies.
struct Nay;

impl Api for Nay {
    fn call(&self, _method: &str, path: &str, _body: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        let answer = match path {
            "/v1/check" => r#"{"decisions":[{"active":false}]}"#,
            _ => r#"{"answers":[{"active":false}]}"#,
        };
        Ok((200, answer.into()))
    }
}

impl Stage for Nay {
    fn native(&self, _caller: &str) -> Result<&dyn Api, Failure> {
        Ok(self)
    }
    fn form(&mut self, _caller: &str, _path: &str, _form: &[(&str, &str)]) -> Result<Answer, Failure> {
        Ok(Answer { status: 200, headers: Vec::new(), body: br#"{"active":false}"#.to_vec() })
    }
    fn authorize(&mut self, _token: &str, _scope: &str, _place: &str) -> Result<Answer, Failure> {
        Err(Failure::run_time("no answer"))
    }
    fn kill(&mut self) -> Result<(), Failure> {
        Ok(())
    }
    fn restart(&mut self) -> Result<Duration, Failure> {
        Ok(Duration::from_millis(1))
    }

    fn state(&self) -> String {
        String::new()
    }
}

#[test]
fn a_server_that_always_says_no_does_not_pass_and_is_played_to_the_end() {
    let mut record = Record::new(true);
    let mut out = Vec::new();
    let now = Timestamp::from_raw(1_790_000_000);
    play::all(&mut Nay, &mut record, &mut out, 1, (2_000, now, Instant::now()), 100).unwrap();
    assert!(!record.all_held());
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "kill"] {
        let steps: Vec<_> = lines.iter().filter(|line| line["row"] == row).collect();
        assert!(!steps.is_empty(), "{row}");
        assert!(steps.iter().any(|line| line["held"] == false), "{row} would pass a server that always says no");
    }
}
