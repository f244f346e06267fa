//! Keys that sign and keys that check: Ed25519 (RFC 8032), as the library under rustls has it.
//!
//! Owns the texts of keys and the file that holds a secret one. Refuses a key file that others can read, and texts that
//! are no keys; every failure is [`Kind::Usage`]. A secret key is never shown, whatever is printed of it.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::hex::{from_hex, hex};

/// What a secret key's text begins with, so that scanners find one that was published by mistake.
const SECRET: &str = "tablecast_sign_";
/// What a public key's text begins with.
const PUBLIC: &str = "ed25519:";
/// No key file is larger.
const FILE_LIMIT: u64 = 4 << 10;

/// A public key. Text form: `ed25519:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }

    /// Whether its secret key has made this signature of these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Not repeated: it may be the secret one.
        text.strip_prefix(PUBLIC).and_then(from_hex).map(Self).ok_or_else(|| {
            Error::new(Kind::Usage, "it is no public key: `ed25519:` and 64 lower-case hex digits")
                .hint("`tablecast key --show FILE` at the source prints it")
        })
    }
}

/// What a key is called where its whole text would be too much: the first 8 bytes of the SHA-256 of the public key, hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Of its 16 lower-case hex digits.
    pub fn of_text(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("a key's id is 16 lower-case hex digits");
        Self::of_text(&text).ok_or_else(wrong)
    }
}

/// A secret key.
pub struct SecretKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public)
    }
}

impl SecretKey {
    fn of_seed(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The signature of these bytes: always the same.
    pub fn sign(&self, bytes: &[u8]) -> Result<[u8; 64]> {
        let signature = self.pair.try_sign(bytes).ok();
        signature.and_then(|signature| signature.as_ref().try_into().ok()).ok_or_else(|| {
            Error::new(Kind::Failed, format!("sign with key {}: the library refuses", self.public.id()))
        })
    }

    /// Makes the file, which must not be there, with a key of these 32 random bytes.
    pub fn make(path: &Path, random: [u8; 32]) -> Result<Self> {
        let failed = |cause: std::io::Error| {
            let hint = match cause.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    "a key is never overwritten: name another file, or see its public key with `tablecast key --show`"
                }
                _ => "the folder must be there, and this user must be able to write to it",
            };
            let what = format!("make the key file {}", path.display());
            Error::new(Kind::Usage, what).hint(hint).caused_by(cause)
        };
        let key = Self::of_seed(&random)
            .ok_or_else(|| Error::new(Kind::Failed, "make a key: the library refuses the random bytes"))?;
        let text = SecretString::from(format!(
            "# Signs a stream of Tablecast. Secret: whoever has it can extend the stream.\n# Its public key, for [trust]: {}\n\
             {SECRET}{}\n",
            key.public,
            hex(&random)
        ));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(key)
    }

    /// The key in a file that nobody else can read.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong =
            |why: &str| Error::new(Kind::Usage, format!("read the key file {}: {why}", path.display()));
        let unreadable = |cause: std::io::Error| {
            wrong("it cannot be read")
                .hint(
                    "`tablecast key FILE` makes one; the user that tablecast runs as must be able to read it",
                )
                .caused_by(cause)
        };
        // Of the file that is read, not of what is there a moment later under its name.
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(wrong(&format!("others can read it or write to it (mode {mode:04o})")).hint(format!(
                "chmod 600 {0}; if anybody may have read it, make a new one: docs/runbooks/sign-the-stream.md",
                path.display()
            )));
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_LIMIT), &mut text)
            .map_err(unreadable)?;
        let text = SecretString::from(text);
        let mut lines = text
            .expose_secret()
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let key = match (lines.next(), lines.next()) {
            (Some(line), None) => {
                line.strip_prefix(SECRET).and_then(from_hex).and_then(|seed| Self::of_seed(&seed))
            }
            _ => None,
        };
        key.ok_or_else(|| {
            wrong("it does not hold a secret key").hint("`tablecast key FILE` makes one, in a new file")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of the test vectors in RFC 8032, 7.1.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let bytes = |text: &str| from_hex::<32>(text).unwrap();
        let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = SecretKey::of_seed(&seed).unwrap();
        let public = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.public().to_string(), public);
        let signature = key.sign(b"").unwrap();
        assert_eq!(
            hex(&signature),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd\
             25bf5f0595bbe24655141438e7a100b"
        );
        let read: PublicKey = public.parse().unwrap();
        assert!(read.has_signed(b"", &signature));
        assert!(!read.has_signed(b"x", &signature));
        let mut other = signature;
        other[63] ^= 1;
        assert!(!read.has_signed(b"", &other));
        assert!(!SecretKey::of_seed(&[7; 32]).unwrap().public().has_signed(b"", &signature));
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sign.key");
        let key = SecretKey::make(&path, [7; 32]).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(SecretKey::load(&path).unwrap().public(), key.public());
        let again = SecretKey::make(&path, [8; 32]).unwrap_err();
        assert!(again.hint_text().unwrap().contains("never overwritten"));
        assert!(!format!("{key:?}").contains(&hex(&[7; 32])));

        for mode in [0o604, 0o602, 0o644, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = SecretKey::load(&path).unwrap_err();
            assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
        }
        let secret = format!("{SECRET}{}", hex(&[7; 32]));
        for wrong in
            ["", "# nothing", &secret[..secret.len() - 1], &format!("{secret}\n{secret}"), &hex(&[7; 32])]
        {
            std::fs::write(&path, wrong).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = SecretKey::load(&path).unwrap_err();
            let said = format!("{error:?} {}", error.hint_text().unwrap());
            assert!(!said.contains(&hex(&[7; 8])), "{said}");
        }
        // One that is put where the public key belongs is not repeated either.
        let error = secret.parse::<PublicKey>().unwrap_err();
        assert!(!format!("{error:?}").contains(&hex(&[7; 8])), "{error:?}");
    }
}
