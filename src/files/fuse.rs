//! File systems in user space: whoever serves one says whose its files are.

use rustix::fs::{major, minor};

/// The mounts of this process, as Linux tells them.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The user who serves the file system on the device `device`, where that is one in user space. What its files say of their
/// owners is that user's word.
pub fn server_of(device: u64) -> Option<u32> {
    let mounts = std::fs::read_to_string(MOUNTS).ok()?;
    server_in(&mounts, &format!("{}:{}", major(device), minor(device)))
}

/// The same, from the lines of [`MOUNTS`]: numbers, the device, folders and options; after a dash, the type, the source and the
/// options of the file system.
fn server_in(mounts: &str, device: &str) -> Option<u32> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let is_it = mount.split(' ').nth(2) == Some(device);
        let mut system = system.split(' ');
        let is_fuse = system.next()?.starts_with("fuse");
        let options = system.nth(1).filter(|_| is_it && is_fuse)?;
        let user = |option: &str| option.strip_prefix("user_id=")?.parse().ok();
        options.split(',').find_map(user)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_in_user_space_have_a_server() {
        let mounts = "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw,user_id=7\n\
            99 24 0:52 / /home/eve/m rw,nosuid,nodev shared:1 - fuse.sshfs eve@host: rw,user_id=1001,group_id=1001,allow_other\n\
            100 24 0:53 / /mnt rw - fuseblk /dev/sdb1 rw,user_id=0,group_id=0\n\
            nonsense\n";
        let servers = ["254:0", "0:52", "0:53", "0:5"].map(|device| server_in(mounts, device));
        assert_eq!(servers, [None, Some(1_001), Some(0), None]);
        let here = std::env::current_dir().unwrap();
        let found = std::os::unix::fs::MetadataExt::dev(&here.metadata().unwrap());
        assert_eq!(server_of(found).filter(|user| *user != 0), None);
    }
}
