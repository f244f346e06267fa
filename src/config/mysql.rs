//! How a MySQL server is reached: address, account, where its password comes from, TLS.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::error::{Error, Kind, Result};

/// `[mysql]` or `[primary]`.
#[derive(Clone, Debug)]
pub struct MysqlConfig {
    pub host: Option<String>,
    pub port: u16,
    /// Instead of a host.
    pub socket: Option<PathBuf>,
    pub user: String,
    pub password: Password,
    pub tls: Tls,
}

impl fmt::Display for MysqlConfig {
    /// `user@host:port` or `user@socket`: the name of the server in messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.socket, &self.host) {
            (Some(socket), _) => write!(f, "{}@{}", self.user, socket.display()),
            (None, Some(host)) => write!(f, "{}@{host}:{}", self.user, self.port),
            (None, None) => write!(f, "{}@127.0.0.1:{}", self.user, self.port),
        }
    }
}

/// Where the password comes from; got only when a connection is made.
#[derive(Clone, Debug)]
pub enum Password {
    None,
    Value(SecretString),
    File(PathBuf),
    /// Run by `sh -c`; the first line of its standard output.
    Command(String),
}

impl Password {
    /// Gets the password: reads the file or runs the command.
    pub async fn get(&self) -> Result<Option<SecretString>> {
        match self {
            Password::None => Ok(None),
            Password::Value(secret) => Ok(Some(secret.clone())),
            Password::File(path) => read(path).await.map(Some),
            Password::Command(command) => run(command).await.map(Some),
        }
    }

    /// Whether the file can be used, if it is one. Runs nothing.
    pub fn check(&self) -> Result<()> {
        match self {
            Password::File(path) => password_in(path, std::fs::read_to_string(path)).map(drop),
            Password::None | Password::Value(_) | Password::Command(_) => Ok(()),
        }
    }
}

async fn read(path: &Path) -> Result<SecretString> {
    password_in(path, tokio::fs::read_to_string(path).await)
}

fn password_in(path: &Path, text: std::io::Result<String>) -> Result<SecretString> {
    let text = text.map_err(|cause| {
        Error::new(Kind::Usage, format!("read password_file {}", path.display()))
            .hint(
                "the file holds the password on its first line and is readable by this user only (mode 0400)",
            )
            .caused_by(cause)
    })?;
    first_line(&text).ok_or_else(|| {
        Error::new(Kind::Usage, format!("password_file {} is empty", path.display())).hint(
            "write the password on its first line, or leave password_file out for an account without one",
        )
    })
}

async fn run(command: &str) -> Result<SecretString> {
    let failed = |what: String| {
        Error::new(Kind::Usage, format!("password_command {command:?} {what}"))
            .hint("run it by hand as this user: it must print the password on its first line and exit 0")
    };
    let output = tokio::process::Command::new("sh")
        .args(["-c", command])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .await
        .map_err(|cause| failed("could not be started".to_owned()).caused_by(cause))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    let text = String::from_utf8(output.stdout)
        .map_err(|_| failed("printed bytes that are not UTF-8".to_owned()))?;
    first_line(&text).ok_or_else(|| failed("printed nothing".to_owned()))
}

fn first_line(text: &str) -> Option<SecretString> {
    text.lines().next().filter(|line| !line.is_empty()).map(SecretString::from)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    /// PEM of the authorities that are trusted; none: the public ones.
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Off,
    /// TLS, the server's certificate not checked.
    Require,
    /// TLS, certificate and host name checked.
    Verify,
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsMode::Off => "off",
            TlsMode::Require => "require",
            TlsMode::Verify => "verify",
        })
    }
}
