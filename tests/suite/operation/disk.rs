//! A server whose disk fills up and is freed again.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::world::{assert_error, created};

const ACCOUNT: [(&str, &str); 2] = [
    ("COUNTERSIGN_ACCOUNT_SID", "AC0123456789abcdef0123456789abcdef"),
    ("COUNTERSIGN_AUTH_TOKEN", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
];

/// Shell script that mounts a small disk in its own mount namespace, where any user may mount, and then
/// executes the server.
const ON_A_SMALL_DISK: &str =
    "mount -t tmpfs -o size=4m tmpfs data && exec \"$0\" serve --listen 127.0.0.1:0";

/// Returns whether a disk can be mounted here. If not, prints a notice; with `CI` set it fails instead.
fn can_mount(test: &str) -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]);
    let can =
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !can {
        assert!(std::env::var_os("CI").is_none(), "{test} needs `unshare` and the right to mount");
        eprintln!("SKIPPED {test}: no disk can be mounted here");
    }
    can
}

#[tokio::test]
async fn full_disk_refuses_writes_but_not_reads() {
    if !can_mount("operation::disk::full_disk_refuses_writes_but_not_reads") {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK]).arg(BINARY);
    command.current_dir(&place.folder).envs(ACCOUNT);
    let server = Serving::launch(&place.folder, command).await;
    let backend = server.backend(ACCOUNT[0].1, ACCOUNT[1].1);
    // `unshare` and the shell have become the server, whose disk is reachable through its process.
    let disk = PathBuf::from(format!("/proc/{}/root{}", server.child.id(), place.path("data").display()));
    assert_ne!(fs::metadata(&disk).unwrap().dev(), fs::metadata(&place.folder).unwrap().dev());

    let service = created(&backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await);
    let service = format!("/v2/Services/{}", service["sid"].as_str().unwrap());
    let entities = format!("{service}/Entities");
    let mut kept = Vec::new();
    for number in 0..8 {
        let identity = format!("before-{number:04}");
        created(&backend.post(&entities, &[("Identity", &identity)]).await);
        kept.push(identity);
    }

    let _ = fs::write(disk.join("filler"), vec![0; 8 * 1024 * 1024]);
    // Pages of the write-ahead log may have some room left.
    let mut number = 0;
    let refused = loop {
        let identity = format!("while-full-{number:04}");
        let reply = backend.post(&entities, &[("Identity", &identity)]).await;
        match reply.status {
            201 => kept.push(identity),
            _ => break (identity, reply),
        }
        number += 1;
        assert!(number < 10_000, "the disk does not get full");
    };
    assert_error(&refused.1, 503, 20503);
    assert!(refused.1.header("retry-after").is_some());
    // Refused writes do not exist; acknowledged ones do and can be read.
    assert_error(&backend.get(&format!("{entities}/{}", refused.0), &[]).await, 404, 20404);
    for identity in &kept {
        assert_eq!(backend.get(&format!("{entities}/{identity}"), &[]).await.status, 200, "{identity}");
    }
    for path in ["/readyz", &service] {
        assert_eq!(backend.get(path, &[]).await.status, 200, "{path}");
    }

    fs::remove_file(disk.join("filler")).unwrap();
    let again = wait_until("the disk has room again", WAIT_TIMEOUT, async || {
        let reply = backend.post(&entities, &[("Identity", &refused.0)]).await;
        assert!([201, 503].contains(&reply.status), "{reply:?}");
        (reply.status == 201).then_some(reply)
    })
    .await;
    kept.push(created(&again)["identity"].as_str().unwrap().to_owned());
    for identity in &kept {
        assert_eq!(backend.get(&format!("{entities}/{identity}"), &[]).await.status, 200, "{identity}");
    }
    server.stop().await;
}
