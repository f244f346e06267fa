//! Config files: refused with the file's name in the message, or shown in a form that can be read back; and files of
//! tokens.

use std::path::Path;

use tablecast::Kind;
use tablecast::binlog::name::TableSet;
use tablecast::config::{parse, parse_duration, parse_size};
use tablecast::http::tokens::Tokens;

const NAME: &str = "/etc/tablecast/t.toml";
/// What `${SECRET}` stands for.
const SECRET: &str = "s3cr3t";

pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = parse_size(text);
    let _ = parse_duration(text);
    let _ = TableSet::parse(&[text]);
    let _ = Tokens::parse(Path::new("/etc/tablecast/tokens.toml"), text);
    let environment = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    match parse(Path::new(NAME), text, &environment) {
        Ok(config) => {
            let shown = config.to_toml();
            if is_in_passwords_alone(text) {
                assert!(!shown.contains(SECRET), "{shown}");
                assert!(!config.to_json().to_string().contains(SECRET), "{shown}");
            }
            let again = parse(Path::new(NAME), &shown, &environment);
            let again = again.unwrap_or_else(|error| panic!("{error}\n{shown}"));
            assert_eq!(again.to_json(), config.to_json(), "{shown}");
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            assert!(error.to_string().contains(NAME), "{error}");
        }
    }
}

/// Whether the secret is in force nowhere but in passwords: in any other key it is shown like every text.
fn is_in_passwords_alone(text: &str) -> bool {
    let before: Vec<&str> = text.split("${SECRET}").collect();
    let of_passwords = before[..before.len() - 1].iter().all(|before| {
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.split_once('=').is_some_and(|(key, _)| key.trim() == "password")
    });
    of_passwords && !["\"\"\"", "'''", SECRET].iter().any(|odd| text.contains(odd))
}
