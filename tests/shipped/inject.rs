//! System calls of the real program that fail: the N-th sync or write is answered with EIO or ENOSPC by strace. Nothing
//! that was acknowledged is missing afterwards, nothing revoked is active, and after a failed commit nothing more is
//! acknowledged: the program ends, and a start finds out what is on the disk.
//!
//! `TOKENSCOPE_INJECTIONS=n` lets each of the first n calls of each sort fail, one at a time (default: a few of them).

use std::fs;
use std::process::Command;

use tokenscope::client::{Client, NewToken, Revoke, Token, Verdict};
use tokenscope::domain::{Expiry, GrantId, TokenTimes};

use super::house::{House, PROGRAM, figure, is_installed, now, skipped};
use super::native::{options, runtime};

/// What the client knows of one token.
struct Row {
    name: String,
    /// Acknowledged?
    made: bool,
    /// Asked for; acknowledged?
    revoked: Option<bool>,
}

/// Changes one after the other until one fails.
async fn change(house: &House, run: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let Ok(client) = Client::connect(options(house, "admin")).await else { return rows };
    for number in 0..9 {
        let name = format!("{run} {number}");
        let times = TokenTimes { issued: now(), not_before: now(), expiry: Expiry::Never };
        let grant = GrantId::new(1).unwrap();
        let new = NewToken { token: Token::from(&name), grant, times, confirmation: None, audience: None };
        let made = client.register(&new).await.is_ok();
        rows.push(Row { name, made, revoked: None });
        if !made {
            break;
        }
        if number % 3 == 2 {
            let row = &mut rows[number - 1];
            row.revoked = Some(client.revoke(Revoke::Token(Token::from(&row.name))).await.is_ok());
            if row.revoked == Some(false) {
                break;
            }
        }
    }
    // After a change that failed, no other is acknowledged by this process.
    if rows.last().is_some_and(|row| !row.made) || rows.iter().any(|row| row.revoked == Some(false)) {
        let mut quick = options(house, "admin");
        quick.change_deadline = std::time::Duration::from_millis(300);
        quick.connect_deadline = quick.change_deadline;
        if let Ok(client) = Client::connect(quick).await {
            let after = client.revoke(Revoke::Token(Token::from("whatever"))).await;
            assert!(after.is_err(), "{run}: acknowledged after a failed commit");
        }
    }
    rows
}

#[test]
fn the_nth_system_call_fails_and_nothing_acknowledged_is_lost() {
    if !is_installed("strace") {
        return skipped("system calls that fail: no strace here");
    }
    let wanted: Option<u32> = std::env::var("TOKENSCOPE_INJECTIONS").ok().and_then(|text| text.parse().ok());
    let mut house = House::new();
    let (mut faults, mut no_start, mut ended, mut went_on, mut acknowledged) = (0, 0, 0, 0, 0);
    let mut all: Vec<Row> = Vec::new();
    for (call, error, some) in [
        ("fdatasync", "EIO", &[1, 3, 6][..]),
        ("fsync", "EIO", &[1, 2]),
        ("pwrite64", "ENOSPC", &[1, 12, 30]),
        ("pwrite64", "EIO", &[20]),
    ] {
        let numbers: Vec<u32> = wanted.map_or(some.to_vec(), |wanted| (1..=wanted).collect());
        for number in numbers {
            let run = format!("{call} {error} {number}");
            let traced = house.dir.path().join("injected");
            let _ = fs::remove_file(&traced);
            let mut command = Command::new("strace");
            // -D: the program is our child, and strace looks on from beside it.
            command.args(["-f", "-D", "-qq", "-o"]).arg(&traced).args(["-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:error={error}:when={number}")]);
            command.arg(PROGRAM).arg("serve").arg("--config").arg(&house.file.config_file);
            match house.try_start_by(command) {
                Err(ran) => {
                    if ran.err.contains("ptrace") || ran.err.contains("Operation not permitted") {
                        return skipped("system calls that fail: strace may not trace here");
                    }
                    assert_ne!(ran.code, Some(0), "{run}: {}", ran.err);
                    assert!(ran.err.contains("ERROR"), "{run}: no line says why: {}", ran.err);
                    no_start += 1;
                }
                Ok(()) => {
                    let rows = runtime().block_on(change(&house, &run));
                    let failed = rows.iter().any(|row| !row.made || row.revoked == Some(false));
                    acknowledged += rows.iter().filter(|row| row.made).count();
                    acknowledged += rows.iter().filter(|row| row.revoked == Some(true)).count();
                    all.extend(rows);
                    if failed {
                        let ran = house.ended();
                        assert_eq!(ran.code, Some(1), "{run}: {}", ran.err);
                        assert!(ran.err.contains("the journal failed"), "{run}: {}", ran.err);
                        ended += 1;
                    } else {
                        // It met a snapshot, or came only with the stop: that may say so by its code.
                        house.stop();
                        went_on += 1;
                    }
                }
            }
            // Each call is written down when it ends, by a tracer that may be a little behind.
            faults += fs::read_to_string(&traced).unwrap_or_default().matches("(INJECTED)").count();
            // Without faults again, it has all it ever acknowledged.
            house.start();
            let tokens: Vec<Token> = all.iter().map(|row| Token::from(&row.name)).collect();
            let verdicts = runtime().block_on(async {
                let client = Client::connect(options(&house, "admin")).await.unwrap();
                let verdicts = client.introspect_many(&tokens).await.unwrap();
                client.close().await;
                verdicts
            });
            for (row, verdict) in all.iter().zip(verdicts) {
                let active = matches!(verdict.unwrap(), Verdict::Active(_));
                match (row.made, row.revoked) {
                    (_, Some(true)) => assert!(!active, "after {run}: {} was revoked and is active", row.name),
                    (true, None) => assert!(active, "after {run}: {} was acknowledged and is gone", row.name),
                    _ => {}
                }
            }
            house.is_well(&run);
            assert_eq!(house.stop().code, Some(0));
        }
    }
    assert!(ended > 0 && faults > 4, "{faults} faults, {ended} ends: too little was met");
    figure(&format!(
        "system calls that fail: {faults} faults; {no_start} starts refused, {ended} ended after a failed commit, {went_on} went \
         on; {acknowledged} changes acknowledged, lost 0, active again 0"
    ));
}
