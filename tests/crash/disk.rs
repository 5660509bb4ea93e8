//! A disk whose power can be cut: ext4 in a file, by a loop device.

use std::path::PathBuf;
use std::process::Command;

use crate::site::{eventually, temporary};

/// Shuts the file system down as it is: nothing more reaches the disk, its journal is not written.
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`; an ioctl needs `unsafe`, Perl is on every Debian.
const CUT: &str =
    r#"open F, "<", shift or die $!; my $how = pack "L", 2; ioctl F, 0x8004587d, $how or die $!"#;

/// The disk; unmounted and removed with the value.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// Why that cannot be done here.
    pub(crate) fn new() -> Result<Self, String> {
        let folder = temporary();
        let mut disk = Self {
            folder,
            mounted: false,
        };
        let image = std::fs::File::create(disk.image()).map_err(|error| error.to_string())?;
        image
            .set_len(256 << 20)
            .map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", &disk.image()])?;
        std::fs::create_dir(disk.path()).map_err(|error| error.to_string())?;
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> String {
        self.folder.path().join("image").display().to_string()
    }

    fn mount(&mut self) -> Result<(), String> {
        let path = self.path().display().to_string();
        run("mount", &["-o", "loop", &self.image(), &path])?;
        self.mounted = true;
        Ok(())
    }

    /// Cuts the power.
    pub(crate) fn cut(&self) {
        run("perl", &["-e", CUT, &self.path().display().to_string()]).unwrap();
    }

    /// The power is back. Nobody may use the disk any more. A process that began meanwhile in a mount
    /// namespace of its own may hold the dead file system; as long as it does, that is mounted again.
    pub(crate) fn restore(&mut self) {
        eventually("the disk is back", || {
            self.unmount().ok()?;
            self.mount().ok()?;
            let probe = self.path().join("probe");
            std::fs::write(&probe, "").ok()?;
            std::fs::remove_file(&probe).ok()
        });
    }

    fn unmount(&mut self) -> Result<(), String> {
        if self.mounted {
            run("umount", &[&self.path().display().to_string()])?;
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
