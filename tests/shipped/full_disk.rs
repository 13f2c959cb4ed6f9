//! A full disk: changes are refused with a clear error, questions go on being answered, and with space again nothing
//! that was acknowledged is missing.
//!
//! The data directory lies on a small file system in memory, in a name space of its own. Where that is not permitted the
//! test says so and passes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::house::{House, PROGRAM, figure, is_installed, skipped, wait_for};
use super::native::{options, runtime};
use tokenscope::client::{Client, NewToken, Revoke, Token, Verdict};
use tokenscope::domain::{Expiry, GrantId, TokenTimes};

/// The disk, in MiB.
const DISK: u64 = 48;

fn permitted() -> bool {
    is_installed("unshare")
        && Command::new("unshare")
            .args(["-Urm", "sh", "-c", "mount -t tmpfs none /mnt"])
            .output()
            .is_ok_and(|ran| ran.status.success())
}

/// Ends the server in the name space if the test does not come so far: nobody else knows its number.
struct Ends(PathBuf);

impl Drop for Ends {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| std::thread::panicking()) {
            // Without this file no second one is started.
            let _ = fs::remove_file(self.0.with_file_name("go"));
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn on_a_full_disk_changes_are_refused_questions_answered_and_nothing_is_lost() {
    if !permitted() {
        return skipped("the full disk: no mount in a name space of our own (unshare -Urm)");
    }
    let mut house = House::with("\n[limits]\ndisk_reserve_bytes = \"8MiB\"\n");
    let root = house.file.config_file.parent().unwrap().to_owned();
    // A server, and when it has ended another one with more space: the same mount, so the same disk.
    let script = root.join("small-disk.sh");
    let text = format!(
        "set -e\ncd {root}\nmv data seed\nmkdir -m 700 data\nmount -t tmpfs -o size={DISK}m,mode=700 none data\n\
         cp -a seed/. data/\nrun() {{ {PROGRAM} serve --config tokenscope.toml & echo $! > pid; wait $! || echo $? >> ended; }}\n\
         trap : TERM\n\
         fill() {{ while [ -e fill ]; do df --output=avail -B1 data | tail -1 > avail.new; mv avail.new avail; \
         if [ -s want ]; then head -c $(cat want) /dev/zero > data/ballast 2>/dev/null || :; : > want; fi; sleep 0.02; done; }}\n\
         : > go; : > want; : > fill; fill & \nrun\nrm fill\nrm -f data/ballast\nmount -o remount,size=256m data\n[ -e go ] && run\n",
        root = root.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh"]).arg(&script);
    let _ends = Ends(root.join("pid"));
    house.try_start_by(command).unwrap();

    let available = || fs::read_to_string(root.join("avail")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let first_pid = fs::read_to_string(root.join("pid")).unwrap();
    let at = super::house::now();
    let times = TokenTimes { issued: at, not_before: at, expiry: Expiry::Never };
    let token = |number: usize| Token::from(&format!("full disk {number}"));
    let (grant, acknowledged, refusal, revoked) = runtime().block_on(async {
        let client = Client::connect(options(&house, "admin")).await.unwrap();
        let body = "{\"subject\":\"maria\",\"client\":\"time-tracker\",\"never_expires\":true,\
                    \"access\":[{\"place\":\"1579\",\"scopes\":[\"tasks:read\"]}]}";
        let answer = client.api("POST", "/v1/grants", body.as_bytes()).await.unwrap();
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        let grant = GrantId::new(told["grant"].as_str().unwrap()[1..].parse().unwrap()).unwrap();
        let register = async |number: usize| {
            let new = NewToken { token: token(number), grant, times, confirmation: None, audience: None };
            client.register(&new).await
        };
        let mut acknowledged = Vec::new();
        for number in 0..20 {
            register(number).await.unwrap();
            acknowledged.push(number);
        }
        // Somebody else fills the disk to the last byte.
        fs::write(root.join("want"), format!("{}", DISK << 20)).unwrap();
        wait_for("a full disk", || available().filter(|bytes| *bytes == 0));
        let mut refusal = None;
        for number in 20..2_000 {
            match register(number).await {
                Ok(_) => acknowledged.push(number),
                Err(error) => {
                    refusal = Some(error.to_string());
                    break;
                }
            }
        }
        let refusal = refusal.expect("changes without end on a full disk");
        // Questions are answered, and for more than a moment.
        for _ in 0..30 {
            let verdicts = client.introspect_many(&acknowledged.iter().map(|it| token(*it)).collect::<Vec<_>>()).await;
            for verdict in verdicts.unwrap() {
                assert!(matches!(verdict, Ok(Verdict::Active(_))), "{verdict:?}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // Taking rights away may still be possible; if it was acknowledged, it holds.
        let revoked = client.revoke(Revoke::Token(token(0))).await.is_ok();
        client.close().await;
        (grant, acknowledged, refusal, revoked)
    });
    assert!(refusal.contains("disk") || refusal.contains("space"), "a clear error: {refusal}");
    let answer = house.introspect(&house.token("jonas-time").token);
    assert!(answer.text().contains("\"active\":true"), "{answer:?}");
    assert_eq!(house.admin("/livez").map(|answer| answer.status), Some(200));
    let metrics = house.admin("/metrics").map(|answer| answer.text()).unwrap_or_default();
    assert!(metrics.lines().any(|line| line == "tokenscope_disk_refuses_changes 2"), "the operator is told too");
    house.logs("the disk is full: no changes are made; questions are answered");
    assert_eq!(fs::read_to_string(root.join("pid")).unwrap(), first_pid, "it is the server that saw the disk fill up");

    let first: i32 = first_pid.trim().parse().unwrap();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    wait_for("the second server", || {
        let pid = fs::read_to_string(root.join("pid")).unwrap();
        (pid != first_pid && house.is_ready()).then_some(())
    });
    runtime().block_on(async {
        let client = Client::connect(options(&house, "admin")).await.unwrap();
        for number in &acknowledged {
            let verdict = client.introspect(token(*number)).await.unwrap();
            let expected_active = !(revoked && *number == 0);
            if *number != 0 || revoked {
                assert_eq!(matches!(verdict, Verdict::Active(_)), expected_active, "{number}: {verdict:?}");
            }
        }
        let new = NewToken { token: token(5_000), grant, times, confirmation: None, audience: None };
        client.register(&new).await.unwrap();
        client.close().await;
    });
    house.is_well("a full disk that has space again");
    let second: i32 = fs::read_to_string(root.join("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(second).unwrap(), Signal::TERM).unwrap();
    assert_eq!(house.ended().code, Some(0));
    figure(&format!(
        "full disk: {} tokens acknowledged, none lost; a revocation {}; refused with: {refusal}",
        acknowledged.len(),
        if revoked { "went through" } else { "was refused too" }
    ));
}
