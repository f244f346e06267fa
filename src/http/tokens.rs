//! Who may do what: the tokens file. It holds hashes only, each with the region it acts for and its scopes.
//!
//! ```toml
//! [[token]]
//! name = "eu1"
//! sha256 = "…"                             # of the token, hex
//! region = "eu1"                           # the only region it acts for
//! scopes = ["read", "dump", "report"]
//! ```
//!
//! A presented token is hashed and compared with every hash in constant time: how long an answer takes tells
//! nothing about the hashes. A token has 256 random bits, so a plain hash keeps it as well as a slow one would.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::error::{Error, Kind, Result};
use crate::hex::hex;

/// What a fresh token begins with, so that scanners find one that was published by mistake.
const PREFIX: &str = "tablecast_";
/// The largest tokens file that is read.
const FILE_LIMIT: u64 = 4 << 20;

/// What a token allows.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To read everything: status, regions, dumps, the stream.
    Read,
    /// To ask for dumps for its region, to see and cancel those requests.
    Dump,
    /// To report for its region.
    Report,
    /// All of that, for every region.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Dump, Scope::Report, Scope::Admin];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Read => "read",
            Scope::Dump => "dump",
            Scope::Report => "report",
            Scope::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.to_string() == text).ok_or_else(|| {
            Error::new(Kind::Usage, format!("{text:?} is no scope: read, dump, report or admin"))
        })
    }
}

/// One token of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What people call it; stands in the log.
    pub name: String,
    sha256: Hash,
    /// The only region that it acts for; none: it acts for no region, or with `admin` for all of them.
    #[serde(default)]
    pub region: Option<String>,
    pub scopes: BTreeSet<Scope>,
}

impl Token {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Whether it may act in the name of this region.
    pub fn acts_for(&self, region: &str) -> bool {
        self.scopes.contains(&Scope::Admin) || self.region.as_deref() == Some(region)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hash([u8; 32]);

impl Hash {
    fn of(token: &str) -> Hash {
        Hash(Sha256::digest(token).into())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hash)")
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        // The value is never repeated: somebody may have put the token itself there.
        let bad = || serde::de::Error::custom("sha256 is not 64 hexadecimal digits");
        let text = String::deserialize(deserializer)?;
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Hash(bytes))
    }
}

/// The tokens in force.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Tokens> {
        let failed = |cause: std::io::Error| {
            Error::new(Kind::Usage, format!("read tokens_file {}", path.display()))
                .hint("`tablecast token` prints what belongs in there; this user must be able to read it")
                .caused_by(cause)
        };
        if std::fs::metadata(path).map_err(failed)?.len() > FILE_LIMIT {
            return Err(Error::new(Kind::Usage, format!("tokens_file {}: more than 4 MiB", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Tokens::parse(path, &text)
    }

    /// The tokens in `text`; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Tokens> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            token: Vec<Token>,
        }
        let file: File = toml::from_str(text).map_err(|cause| {
            // Only the message: the error's own text shows the line, and a token may stand there by mistake.
            let line =
                cause.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Error::new(
                Kind::Usage,
                format!("{}:{line}: {}", path.display(), without_values(cause.message())),
            )
            .hint(
                "each [[token]] has name, sha256, scopes and, unless it reads only or administers, a region; \
                     `tablecast token` prints one",
            )
        })?;
        let tokens = Tokens(file.token);
        tokens
            .validate()
            .map_err(|why| Error::new(Kind::Usage, format!("tokens_file {}: {why}", path.display())))?;
        Ok(tokens)
    }

    fn validate(&self) -> Result<(), String> {
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for token in &self.0 {
            let name = &token.name;
            if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
                return Err(format!("{name:?} is no name: 1 to 100 characters that can be printed"));
            }
            if !names.insert(name) {
                return Err(format!("two tokens have the name {name:?}"));
            }
            if !hashes.insert(token.sha256) {
                return Err(format!("token {name:?} has the same sha256 as another"));
            }
            if token.scopes.is_empty() {
                return Err(format!("token {name:?} has no scope: it would allow nothing"));
            }
            let acts = [Scope::Dump, Scope::Report].iter().any(|scope| token.scopes.contains(scope));
            if acts && token.region.is_none() && !token.scopes.contains(&Scope::Admin) {
                return Err(format!("token {name:?} may dump or report, but has no region to do it for"));
            }
            if token.region.as_deref().is_some_and(|region| !is_region_name(region)) {
                return Err(format!("the region of token {name:?} is no name of a region"));
            }
        }
        Ok(())
    }

    /// The token that was presented, if it is one of these. Takes equally long whichever it is.
    pub fn find(&self, presented: &str) -> Option<&Token> {
        let presented = Hash::of(presented);
        let mut found = u64::MAX;
        for (at, token) in (0u64..).zip(&self.0) {
            found.conditional_assign(&at, token.sha256.0.ct_eq(&presented.0));
        }
        self.0.get(usize::try_from(found).ok()?)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| token.name.as_str())
    }
}

/// A message of the TOML reader without the values that it repeats.
fn without_values(message: &str) -> String {
    let message = message.replace('\n', ", ");
    let cut = |message: &str, begin: &str, end: &str| {
        let (before, rest) = message.split_once(begin)?;
        let (_, after) = rest.rsplit_once(end)?;
        Some(format!("{before}{}{after}", begin.trim_end_matches(['"', '`', ' '])))
    };
    cut(&message, "string \"", "\"")
        .or_else(|| {
            let (_, expected) = message.strip_prefix("unknown variant `")?.split_once("`, expected ")?;
            Some(format!("unknown word, expected {expected}"))
        })
        .unwrap_or(message)
}

/// As in a region's config: letters, digits, `_`, `-` and `.`.
pub fn is_region_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(fits)
}

/// A fresh token, and the entry for the file that admits it.
pub struct Fresh {
    pub token: String,
    pub entry: String,
}

impl Fresh {
    /// From 32 random bytes.
    pub fn make(
        random: [u8; 32],
        name: &str,
        region: Option<&str>,
        scopes: &BTreeSet<Scope>,
    ) -> Result<Fresh> {
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let scopes: Vec<_> = scopes.iter().map(|scope| text(&scope.to_string())).collect();
        let mut entry = format!("[[token]]\nname = {}\nsha256 = \"{}\"\n", text(name), Hash::of(&token));
        if let Some(region) = region {
            entry.push_str(&format!("region = {}\n", text(region)));
        }
        entry.push_str(&format!("scopes = [{}]\n", scopes.join(", ")));
        // What the service would refuse to read is refused here.
        Tokens::parse(Path::new("(new token)"), &entry)?;
        Ok(Fresh { token, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> String {
        Hash::of(token).to_string()
    }

    fn parse(text: &str) -> Result<Tokens> {
        Tokens::parse(Path::new("tokens.toml"), text)
    }

    #[test]
    fn a_fresh_token_is_found_by_itself_and_by_nothing_else() {
        let scopes = BTreeSet::from([Scope::Dump, Scope::Read]);
        let fresh = Fresh::make([7; 32], "eu1", Some("eu1"), &scopes).expect("a token");
        let other = Fresh::make([8; 32], "us1", Some("us1"), &scopes).expect("a token");
        let tokens = parse(&format!("{}{}", fresh.entry, other.entry)).expect("two tokens");
        let found = tokens.find(&fresh.token).expect("it is there");
        assert_eq!((found.name.as_str(), found.region.as_deref()), ("eu1", Some("eu1")));
        assert_eq!(tokens.find(&other.token).map(|token| token.name.as_str()), Some("us1"));
        for wrong in ["", "tablecast_", &fresh.token[..fresh.token.len() - 1], &hash(&fresh.token)] {
            assert!(tokens.find(wrong).is_none(), "{wrong}");
        }
        assert!(!fresh.entry.contains(&fresh.token));
    }

    #[test]
    fn a_token_acts_for_its_own_region_only_unless_it_administers() {
        let entry = |name: &str, rest: &str| {
            format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n{rest}\n", hash(name))
        };
        let text = entry("a", "region = \"eu1\"\nscopes = [\"dump\"]") + &entry("b", "scopes = [\"admin\"]");
        let tokens = parse(&text).expect("tokens");
        let (a, b) = (tokens.find("a").expect("a"), tokens.find("b").expect("b"));
        assert!(a.acts_for("eu1") && !a.acts_for("us1") && !a.acts_for(""));
        assert!(a.may(Scope::Dump) && !a.may(Scope::Read) && !a.may(Scope::Admin));
        assert!(b.acts_for("us1") && b.may(Scope::Report));
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_with_its_line_and_never_with_a_secret() {
        let good = hash("x");
        for (text, expected) in [
            (
                "[[token]]\nname = \"a\"\nsha256 = \"geheim\"\nscopes = [\"read\"]\n".to_owned(),
                "tokens.toml:3: ",
            ),
            ("[[token]]\nname = \"a\"\ntoken = \"geheim\"\n".to_owned(), "unknown field `token`"),
            (
                format!("[[token]]\nname = \"a\"\nsha256 = \"{good}\"\nscopes = [\"geheim\"]\n"),
                "unknown word",
            ),
            (format!("[[token]]\nname = \"a\"\nsha256 = \"{good}\"\nscopes = []\n"), "no scope"),
            (format!("[[token]]\nname = \"a\"\nsha256 = \"{good}\"\nscopes = [\"dump\"]\n"), "no region"),
            (
                format!(
                    "[[token]]\nname = \"a\"\nsha256 = \"{good}\"\nscopes = [\"dump\"]\nregion = \"a b\"\n"
                ),
                "no name of a region",
            ),
            (format!("[[token]]\nname = \"\"\nsha256 = \"{good}\"\nscopes = [\"read\"]\n"), "is no name"),
            (
                format!(
                    "[[token]]\nname = \"a\"\nsha256 = \"{good}\"\nscopes = [\"read\"]\n\
                     [[token]]\nname = \"b\"\nsha256 = \"{good}\"\nscopes = [\"read\"]\n"
                ),
                "same sha256",
            ),
            ("token = \"geheim\"\n".to_owned(), "tokens.toml:1: "),
            ("geheim".to_owned(), "tokens.toml:1: "),
        ] {
            let error = parse(&text).expect_err(&text);
            let said = format!("{error} {error:?} {}", error.hint_text().unwrap_or_default());
            assert_eq!(error.kind(), Kind::Usage);
            assert!(said.contains(expected), "{said} does not say {expected}");
            assert!(!said.contains("geheim"), "{said}");
        }
        assert!(parse("").expect("no tokens").is_empty());
    }
}
