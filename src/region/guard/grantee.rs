//! Accounts and roles by name, as the server's grant tables and its statements have them.

use std::fmt;

use serde::{Serialize, Serializer};

/// An account or a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grantee {
    pub user: String,
    pub host: String,
}

impl Grantee {
    pub fn new(user: impl Into<String>, host: impl Into<String>) -> Self {
        Self { user: user.into(), host: host.into() }
    }

    /// As `CURRENT_USER()` and `DEFINER` have it. A user's name may hold an `@`, a host cannot.
    pub fn of_text(text: &str) -> Self {
        let (user, host) = text.rsplit_once('@').unwrap_or((text, "%"));
        Self::new(user, host)
    }

    /// As SQL in a session whose sql_mode has no NO_BACKSLASH_ESCAPES, as all of ours.
    pub fn quoted(&self) -> String {
        let literal = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
        format!("{}@{}", literal(&self.user), literal(&self.host))
    }

    /// Accounts that the server makes for itself: locked, and nobody's.
    pub fn is_servers_own(&self) -> bool {
        self.host == "localhost" && self.user.starts_with("mysql.")
    }

    /// Whether a grant to this account is looked at when `other` has logged in: the server compares a grant's host
    /// with where the client comes from, not with the account's (sql/auth/sql_auth_cache.cc, `acl_get`).
    pub fn may_serve(&self, other: &Grantee) -> bool {
        self.user == other.user
            && (self.host.eq_ignore_ascii_case(&other.host) || matches(&self.host, &other.host))
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quoted())
    }
}

impl Serialize for Grantee {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a text matches a pattern of LIKE's, with the backslash as escape. An empty pattern matches all, as an empty
/// host does.
pub fn matches(pattern: &str, text: &str) -> bool {
    fn from(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => (0..=text.len()).any(|skipped| from(rest, &text[skipped..])),
            ['_', rest @ ..] => !text.is_empty() && from(rest, &text[1..]),
            ['\\', escaped, rest @ ..] => text.first() == Some(escaped) && from(rest, &text[1..]),
            [plain, rest @ ..] => text.first() == Some(plain) && from(rest, &text[1..]),
        }
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    pattern.is_empty() || from(&pattern, &text)
}

/// The roles that every account has: a list as the variable `mandatory_roles` holds it.
pub fn roles_of(list: &str) -> Vec<Grantee> {
    let mut parts: Vec<[String; 2]> = vec![Default::default()];
    let (mut is_host, mut quote) = (false, None);
    for c in list.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '`' | '\'' | '"') => quote = Some(c),
            (None, '@') => is_host = true,
            (None, ',') => {
                parts.push(Default::default());
                is_host = false;
            }
            (None, c) if c.is_whitespace() => {}
            (_, c) => {
                if let Some(part) = parts.last_mut() {
                    part[usize::from(is_host)].push(c);
                }
            }
        }
    }
    let named = parts.into_iter().filter(|[user, _]| !user.is_empty());
    named
        .map(|[user, host]| Grantee::new(user, if host.is_empty() { "%".to_owned() } else { host }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_round_trips_and_is_quoted() {
        let odd = Grantee::of_text("a@b'c@10.0.0.%");
        assert_eq!((odd.user.as_str(), odd.host.as_str()), ("a@b'c", "10.0.0.%"));
        assert_eq!(odd.to_string(), "'a@b''c'@'10.0.0.%'");
        assert_eq!(Grantee::new("ops\\", "%").to_string(), r"'ops\\'@'%'");
    }

    #[test]
    fn patterns_match_as_the_server_matches_them() {
        assert!(matches("g", "g") && !matches("g", "G") && !matches("g", "gg"));
        assert!(matches("%", "") && matches("g%", "glob") && matches("", "x"));
        assert!(matches("a_c", "abc") && !matches("a\\_c", "abc") && matches("a\\_c", "a_c"));
    }

    #[test]
    fn a_grant_for_a_host_pattern_serves_the_accounts_that_come_from_there() {
        let all = Grantee::new("app", "%");
        assert!(all.may_serve(&Grantee::new("app", "10.0.0.1")) && all.may_serve(&all));
        assert!(!all.may_serve(&Grantee::new("other", "%")));
        assert!(!Grantee::new("app", "10.%").may_serve(&Grantee::new("app", "localhost")));
    }

    #[test]
    fn mandatory_roles_are_read_with_and_without_quotes() {
        let roles = roles_of("reader, `odd,role`@`%`,'w'@'10.0.0.%'");
        let expected =
            [Grantee::new("reader", "%"), Grantee::new("odd,role", "%"), Grantee::new("w", "10.0.0.%")];
        assert_eq!(roles, expected);
        assert!(roles_of("").is_empty());
    }
}
