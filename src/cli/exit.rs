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

impl ExitCode {
    /// Every code.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Unexpected,
        Self::Usage,
        Self::SomeTasksFailed,
        Self::Locked,
        Self::Storage,
        Self::Temporary,
        Self::Token,
        Self::Configuration,
    ];

    /// What the code means, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "all is well",
            Self::Unexpected => "something unexpected",
            Self::Usage => "wrong usage",
            Self::SomeTasksFailed => {
                "some task is not found or forbidden; the others were mirrored"
            }
            Self::Locked => "another instance holds the database",
            Self::Storage => {
                "the database or the disk failed, or standard output cannot be written"
            }
            Self::Temporary => {
                "temporary: the API is unreachable or throttles, or the work was interrupted; try again"
            }
            Self::Token => "the token is missing or refused",
            Self::Configuration => "the configuration is not valid",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
