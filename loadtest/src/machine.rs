//! The machine a run happened on, as far as it bears on the figures.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Largest cache, as the kernel writes it.
    pub cache: String,
    /// Bytes of memory.
    pub memory: u64,
    /// The kernel.
    pub kernel: String,
    /// What the clock is made of.
    pub clock_source: String,
    /// The largest packet of the loopback device. QUIC's packets are smaller than that, TCP's are not.
    pub loopback_mtu: String,
    /// Mitigations that are on.
    pub mitigations: String,
    /// Transparent huge pages.
    pub huge_pages: String,
    /// The load of the last minute when the run began: of anything else on this machine.
    pub load_before: String,
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn after<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find(|line| line.starts_with(name))?.split_once(':').map(|(_, value)| value.trim())
}

/// Looks at the machine.
pub fn look() -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = after(&memory, "MemTotal").and_then(|it| it.split(' ').next()?.parse().ok()).unwrap_or(0);
    let mut mitigations = Vec::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if text.starts_with("Mitigation") {
            mitigations.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    mitigations.sort();
    Machine {
        cpu: after(&cpu, "model name").unwrap_or("unknown").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cache: line("/sys/devices/system/cpu/cpu0/cache/index3/size"),
        memory: kib * 1024,
        kernel: line("/proc/sys/kernel/osrelease"),
        clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        loopback_mtu: line("/sys/class/net/lo/mtu"),
        mitigations: mitigations.join(" "),
        huge_pages: line("/sys/kernel/mm/transparent_hugepage/enabled"),
        load_before: line("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
    }
}
