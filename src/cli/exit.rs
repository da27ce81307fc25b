//! The codes the program exits with, from `sysexits.h` where that has one.

/// The result of a command, for scripts. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All is well.
    Ok = 0,
    /// Something unexpected.
    Unexpected = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Some task could not be mirrored (not found, forbidden); the others were.
    SomeTasksFailed = 65,
    /// Another instance holds the database.
    Locked = 69,
    /// The database or the disk failed, or standard output cannot be written.
    Storage = 74,
    /// The API cannot be reached or throttles, or the work was interrupted: try again.
    Temporary = 75,
    /// The token is missing or refused.
    Token = 77,
    /// The configuration is wrong.
    Configuration = 78,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
