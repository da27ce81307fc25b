//! File systems in user space: whoever serves one says whose its files are.

use std::path::Path;

use rustix::fs::{major, minor, statfs};

/// The mounts of this process, as Linux tells them.
const MOUNTS: &str = "/proc/self/mountinfo";

/// `FUSE_SUPER_MAGIC` of Linux.
const FUSE: u64 = 0x6573_5546;

/// Who serves a file system in user space that no mount tells of: nobody whom anybody trusts.
const UNKNOWN: u32 = 65_534;

/// The user who serves the file system that `path`, on the device `device`, is on, where that is one in user space. What its
/// files say of their owners is that user's word.
pub fn server_of(path: &Path, device: u64) -> Option<u32> {
    // Names of folders need not be text, and must not hide the other lines.
    let mounts = std::fs::read(MOUNTS).unwrap_or_default();
    let device = format!("{}:{}", major(device), minor(device));
    match system_on(&device, &String::from_utf8_lossy(&mounts)) {
        Some((kind, options)) => server_in(kind, options),
        None => is_in_user_space(path).then_some(UNKNOWN),
    }
}

/// Whether `path` is on such a file system, as Linux says; elsewhere that is not known.
fn is_in_user_space(path: &Path) -> bool {
    let kind = statfs(path).map(|system| u64::try_from(system.f_type));
    cfg!(target_os = "linux") && kind.is_ok_and(|kind| kind == Ok(FUSE))
}

/// The type and the options of the file system on `device`, from the lines of [`MOUNTS`]: numbers, the device, folders and
/// options; after a dash, the type, the source and the options of the file system.
fn system_on<'a>(device: &str, mounts: &'a str) -> Option<(&'a str, &'a str)> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let is_it = mount.split(' ').nth(2) == Some(device);
        Some((system.next()?, system.nth(1)?)).filter(|_| is_it)
    })
}

/// Who serves a file system of this type with these options. What a virtual machine gets of its host (`virtiofs`) speaks the same
/// protocol, but no user serves it.
fn server_in(kind: &str, options: &str) -> Option<u32> {
    let user = |option: &str| option.strip_prefix("user_id=")?.parse().ok();
    let server = options.split(',').find_map(user).unwrap_or(UNKNOWN);
    kind.starts_with("fuse").then_some(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_in_user_space_have_a_server() {
        let mounts = "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw,user_id=7\n\
            99 24 0:52 / /home/eve/m rw,nosuid,nodev shared:1 - fuse.sshfs eve@host: rw,user_id=1001,group_id=1001,allow_other\n\
            100 24 0:53 / /mnt rw - fuseblk /dev/sdb1 rw,user_id=0,group_id=0\n\
            101 24 0:54 / /m\u{fffd} rw - tmpfs x\u{fffd} rw\n\
            102 24 0:55 / /share rw - virtiofs share rw\n\
            103 24 0:56 / /odd rw - fuse.odd odd rw\n\
            nonsense\n";
        let server =
            |device| system_on(device, mounts).map(|(kind, options)| server_in(kind, options));
        assert_eq!(server("0:52"), Some(Some(1_001)));
        assert_eq!(server("0:53"), Some(Some(0)));
        assert_eq!(server("0:56"), Some(Some(UNKNOWN)));
        assert_eq!(["254:0", "0:54", "0:55"].map(server), [Some(None); 3]);
        assert_eq!(server("0:5"), None);
        let here = std::env::current_dir().unwrap();
        let device = std::os::unix::fs::MetadataExt::dev(&here.metadata().unwrap());
        assert_eq!(server_of(&here, device).filter(|user| *user != 0), None);
    }
}
