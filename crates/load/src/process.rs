//! Processes of this machine, as the Linux kernel describes them in `/proc`: processor time, context switches and
//! memory.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Length of the kernel's unit of processor time in `/proc/PID/stat`: a hundredth of a second on every architecture
/// that Linux supports for servers (`USER_HZ`, proc(5)).
const CPU_TICK: Duration = Duration::from_millis(10);

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTENING: &str = "0A";

/// A process of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    id: u32,
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time of all threads, in the program and in the kernel.
    pub(crate) cpu: Duration,
    /// Number of times that a thread stopped running, whether it waited or was interrupted. Counts only threads that
    /// still exist.
    pub(crate) context_switches: u64,
    /// Resident memory now.
    pub(crate) resident_bytes: u64,
}

impl Usage {
    /// Returns what was used since `before`. The resident memory is that of now.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            context_switches: self.context_switches.saturating_sub(before.context_switches),
            resident_bytes: self.resident_bytes,
        }
    }
}

impl Process {
    /// Returns this process.
    pub(crate) fn current() -> Self {
        Self { id: std::process::id() }
    }

    /// Returns the process that listens on this TCP port of this machine. Returns `None` if there is none or it belongs
    /// to a user whose processes this user must not inspect.
    pub(crate) fn listening_on(port: u16) -> Option<Self> {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        let sockets: HashSet<String> =
            tables.iter().flat_map(|table| listening_sockets(table, port)).collect();
        let ids = fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.map(|id| Self { id }).find(|process| process.has_any(&sockets))
    }

    /// Returns the process id.
    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Returns the name of the program, at most 15 characters of it; empty if the process has ended.
    pub(crate) fn name(&self) -> String {
        fs::read_to_string(self.path("comm")).unwrap_or_default().trim_end().to_owned()
    }

    /// Returns what the process has used so far, or `None` if it has ended.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let status = fs::read_to_string(self.path("status")).ok()?;
        let threads = fs::read_dir(self.path("task")).ok()?.flatten();
        let statuses = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        Some(Usage {
            cpu: cpu_time(&fs::read_to_string(self.path("stat")).ok()?)?,
            context_switches: statuses.map(|status| context_switches(&status)).sum(),
            resident_bytes: number_after(&status, "VmRSS:")?.saturating_mul(1024),
        })
    }

    fn has_any(&self, sockets: &HashSet<String>) -> bool {
        let Ok(descriptors) = fs::read_dir(self.path("fd")) else { return false };
        let mut targets =
            descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.id))
    }
}

/// Returns the sockets that listen on `port`, in the form of the links in `/proc/PID/fd`. `table` is the text of
/// `/proc/net/tcp`.
fn listening_sockets(table: &str, port: u16) -> impl Iterator<Item = String> {
    table.lines().filter_map(move |line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (_, local_port) = columns.get(1)?.rsplit_once(':')?;
        let is_listening =
            columns.get(3) == Some(&LISTENING) && u16::from_str_radix(local_port, 16) == Ok(port);
        is_listening.then(|| format!("socket:[{}]", columns.get(9).unwrap_or(&"")))
    })
}

/// Returns the processor time in the text of `/proc/PID/stat`.
fn cpu_time(stat: &str) -> Option<Duration> {
    // The name of the program is in parentheses, and may contain spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut ticks = after_name.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(CPU_TICK * user.checked_add(system)?)
}

/// Returns the number of context switches in the text of `/proc/PID/task/TID/status`.
fn context_switches(status: &str) -> u64 {
    let count = |label| number_after(status, label).unwrap_or_default();
    count("\nvoluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:")
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, after) = text.split_once(label)?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn process_that_listens_on_a_port_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(Process::listening_on(port).unwrap().id(), std::process::id(), "{address}");
            drop(listener);
            assert!(Process::listening_on(port).is_none(), "{address}");
        }
    }

    #[test]
    fn usage_of_this_process_grows() {
        let before = Process::current().usage().unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < CPU_TICK * 5 {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(1));
        let after = Process::current().usage().unwrap();
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(after.context_switches > before.context_switches, "{before:?} {after:?}");
        assert!(after.resident_bytes > 100_000, "{after:?}");
        assert!(!Process::current().name().is_empty());
    }

    #[test]
    fn cpu_time_is_read_after_a_name_with_spaces_and_parentheses() {
        let stat = "17 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 30 0 0 20 0 9 0 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(2800)));
        assert_eq!(cpu_time(""), None);
    }

    #[test]
    fn both_kinds_of_context_switches_are_counted() {
        let status = "VmRSS:\t 10 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(context_switches(status), 12);
    }

    #[test]
    fn only_listening_sockets_of_the_port_are_selected() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n\
             1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n\
             2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100\n";
        assert_eq!(listening_sockets(table, 8080).collect::<Vec<_>>(), ["socket:[4711]"]);
    }
}
