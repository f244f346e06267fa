//! What the config file refuses, and how it says so.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};

const SOURCE: &str =
    "role = \"source\"\nstream = \"apps\"\nstore = \"s3://acme/apps\"\n[mysql]\nhost = \"10.0.0.5\"\n";
const REGION: &str = "role = \"region\"\nstream = \"apps\"\nstore = \"file:///srv/apps\"\n[mysql]\nsocket = \"/run/m.sock\"\n\
    [region]\nname = \"eu1\"\ntables = [\"g.apps\"]\n";

fn read(text: &str) -> Result<Config> {
    let environment = |name: &str| match name {
        "SECRET" => Some("s3cr3t".to_owned()),
        "OF_A_FILE" => Some("s3cr3t\n".to_owned()),
        "HOME" => Some("/home/dba".to_owned()),
        _ => None,
    };
    parse(Path::new("/etc/tablecast/t.toml"), text, &environment)
}

fn refused(text: &str) -> Error {
    let error = read(text).expect_err(text);
    assert_eq!(error.kind(), Kind::Usage);
    error
}

/// The message and the hint in one line.
fn complaint(text: &str) -> String {
    let error = refused(text);
    format!("{error} | {}", error.hint_text().unwrap_or_default())
}

#[test]
fn the_smallest_source_file_takes_every_default() {
    let config = read(SOURCE).expect("valid");
    assert_eq!(config.role, Role::Source);
    assert_eq!(config.store, StoreUrl::S3 { bucket: "acme".into(), prefix: "apps".into() });
    assert_eq!(config.upload, UploadConfig::default());
    assert_eq!(config.mysql.port, 3306);
    assert_eq!(config.mysql.user, "tablecast");
    assert_eq!(config.mysql.tls, Tls { mode: TlsMode::Require, ca: None });
    assert!(config.primary.is_none() && config.region.is_none() && config.serve.is_none());
}

#[test]
fn a_region_file_names_what_it_lets_in() {
    let config = read(REGION).expect("valid");
    let region = config.region.expect("a region's file");
    assert_eq!(region.name, "eu1");
    assert!(region.tables.names(&TableName::new("g", "apps")));
    assert_eq!(config.mysql.tls.mode, TlsMode::Off);
    assert!(complaint(&REGION.replace("tables = [\"g.apps\"]", "")).contains("`region.tables` is missing"));
    assert!(complaint(&REGION.replace("\"g.apps\"", "")).contains("lets nothing in"));
    let system = complaint(&REGION.replace("g.apps", "mysql.user"));
    assert!(system.contains("t.toml:8: `region.tables`: ") && system.contains("mysql"), "{system}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    let complaint = complaint(&SOURCE.replace("host", "hots"));
    assert!(complaint.contains("/etc/tablecast/t.toml:5: unknown key `mysql.hots`"), "{complaint}");
    assert!(complaint.contains("did you mean `host` in [mysql]?"), "{complaint}");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    let complaint = complaint(&format!("{SOURCE}segment_bytes = \"1MiB\"\n"));
    assert!(complaint.contains(":6: unknown key `mysql.segment_bytes`"), "{complaint}");
    assert!(complaint.contains("did you mean `segment_bytes` in [upload]?"), "{complaint}");
}

#[test]
fn an_unknown_section_is_named() {
    let complaint = complaint(&format!("{SOURCE}[uplaod]\n"));
    assert!(complaint.contains(":6: unknown section `uplaod` | did you mean `upload`?"), "{complaint}");
}

#[test]
fn every_problem_is_told_at_once() {
    let error = refused("role = \"source\"\nstraem = \"apps\"\nstore = \"ftp://x\"\n[mysql]\nport = 70000\n");
    let message = error.to_string();
    for expected in [
        ":2: unknown key `straem`",
        ":3: `store`: \"ftp://x\" is not a store",
        ":5: `mysql.port`: 70000",
        "`stream` is missing",
        "names no server",
    ] {
        assert!(message.contains(expected), "{expected} in {message}");
    }
    assert!(error.hint_text().is_some_and(|hint| hint.starts_with("5 things to mend")));
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    assert!(complaint("role = \"source\"\nstream = apps\n").starts_with("/etc/tablecast/t.toml:2: "));
}

#[test]
fn variables_are_expanded_and_an_unset_one_is_an_error() {
    let config = read(&format!("{SOURCE}password = \"x${{SECRET}}y\"\n")).expect("valid");
    let Password::Value(secret) = &config.mysql.password else { panic!("{:?}", config.mysql.password) };
    assert_eq!(secret.expose_secret(), "xs3cr3ty");
    let complaint = complaint(&format!("{SOURCE}password = \"${{NO_SUCH}}\"\n"));
    assert!(
        complaint.contains(":6: `mysql.password`: the environment variable NO_SUCH is not set"),
        "{complaint}"
    );
    let literal = read(&format!("{SOURCE}password = \"a$${{b}}\"\n")).expect("valid");
    let Password::Value(secret) = &literal.mysql.password else { panic!() };
    assert_eq!(secret.expose_secret(), "a${b}");
}

#[test]
fn a_password_from_a_variable_that_holds_a_whole_file_has_no_line_end() {
    let config = read(&format!("{SOURCE}password = \"${{OF_A_FILE}}\"\n")).expect("valid");
    let Password::Value(secret) = &config.mysql.password else { panic!("{:?}", config.mysql.password) };
    assert_eq!(secret.expose_secret(), "s3cr3t");
}

#[test]
fn a_secret_is_never_shown() {
    let config = read(&format!("{SOURCE}password = \"${{SECRET}}\"\n")).expect("valid");
    for shown in [config.to_toml(), config.to_json().to_string(), format!("{config:?}")] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
    assert!(config.to_toml().contains("password = \"(redacted)\""));
}

#[test]
fn what_is_shown_can_be_read_back() {
    let shown = read(REGION).expect("valid").to_toml();
    let again = read(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.apply, ApplyConfig::default());
    assert!(shown.contains("# default"));
}

#[test]
fn what_looks_like_a_variable_is_read_back_as_it_was() {
    let text = REGION.replacen("/run/m.sock", "/run/$${SECRET}/$$${b}/m.sock", 1);
    let config = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let again = read(&config.to_toml()).unwrap_or_else(|error| panic!("{error}\n{}", config.to_toml()));
    assert_eq!(again.to_json(), config.to_json());
}

#[test]
fn a_url_with_a_password_in_it_is_refused_and_not_shown() {
    for (key, text) in [
        ("store", SOURCE.replacen("s3://", "s3://me:hidden@", 1)),
        ("store", SOURCE.replacen("s3://", "s3://me:with/hidden@", 1)),
        (
            "region.source_url",
            REGION.replacen("[region]\n", "[region]\nsource_url = \"https://me:hidden@h\"\n", 1),
        ),
        (
            "region.source_url",
            REGION.replacen("[region]\n", "[region]\nsource_url = \"https://me:with/hidden@h:8443\"\n", 1),
        ),
    ] {
        let said = format!("{:?}", refused(&text));
        assert!(said.contains(&format!("`{key}`")) && said.contains("a password in it"), "{said}");
        assert!(!said.contains("hidden"), "{said}");
    }
}

#[test]
fn a_metrics_file_is_one_that_the_exporter_reads_or_is_named_after_its_stream_in_a_folder() {
    let path = |textfile: &str| {
        let config = read(&format!("{REGION}[metrics]\ntextfile = \"{textfile}\"\n"));
        config.map(|config| crate::metrics::textfile::path(&config).expect("a file").display().to_string())
    };
    assert_eq!(path("/m/x.prom").expect("valid"), "/m/x.prom");
    assert_eq!(path("/m/").expect("valid"), "/m/tablecast_region_apps_eu1.prom");
    for unread in ["/m/x.txt", "/m"] {
        let error = path(unread).expect_err(unread);
        assert!(
            error.hint_text().unwrap_or_default().contains(".prom") || error.to_string().contains(".prom")
        );
    }
}

#[test]
fn only_one_password_source_and_one_address_are_allowed() {
    let two = complaint(&format!("{SOURCE}password_file = \"/a\"\npassword_command = \"b\"\n"));
    assert!(two.contains("`mysql.password_command`: stands beside `mysql.password_file`"), "{two}");
    assert!(complaint(&format!("{SOURCE}socket = \"/s\"\n")).contains("stands beside a host"));
}

#[test]
fn a_section_of_the_other_role_is_refused() {
    assert!(
        complaint(&format!("{SOURCE}[apply]\nworkers = 2\n")).contains("[apply] belongs to a region's file")
    );
    assert!(complaint(&format!("{REGION}[upload]\n")).contains("[upload] belongs to a source's file"));
}

#[test]
fn values_of_the_wrong_kind_or_range_are_refused() {
    for (bad, expected) in [
        ("[upload]\ninterval = 1\n", "`upload.interval`: is not text"),
        ("[upload]\ninterval = \"1\"\n", "\"1\" is not a duration"),
        ("[upload]\nsegment_bytes = \"1B\"\n", "is not between"),
        ("[upload]\ncodec = \"lz4\"\n", "write \"gzip\" or \"zstd\""),
        ("[upload]\nlevel = 12\n", "12 is not between 1 and 9"),
        ("port = \"3306\"\n", "`mysql.port`: is not a number"),
        ("port = -1\n", "`mysql.port`"),
        ("tls = \"off\"\n", "`mysql.tls` is a section"),
        ("tls = { mode = \"of\" }\n", "\"of\" is none of its values"),
        ("[s3]\nsse = \"none\"\n", "`s3.sse`"),
        ("[s3]\npath_style = \"yes\"\n", "is not true or false"),
    ] {
        let complaint = complaint(&format!("{SOURCE}{bad}"));
        assert!(complaint.contains(expected), "{bad}: {complaint}");
    }
    let config = read(&format!("{SOURCE}[upload]\ncodec = \"zstd\"\nlevel = 12\ninterval = \"250ms\"\n"))
        .expect("valid");
    assert_eq!((config.upload.level, config.upload.interval), (12, Duration::from_millis(250)));
}

#[test]
fn relative_paths_start_at_the_files_folder() {
    let config = read(&format!("{SOURCE}password_file = \"mysql.pw\"\n")).expect("valid");
    assert!(
        matches!(config.mysql.password, Password::File(path) if path == Path::new("/etc/tablecast/mysql.pw"))
    );
}

#[test]
fn the_files_that_init_writes_are_valid_and_show_every_key() {
    for role in [Role::Source, Role::Region] {
        let text = template(role);
        let config = read(text).expect("the template");
        assert_eq!(config.role, role);
        for key in KEYS.iter().filter(|key| key.role.is_none_or(|home| home == role)) {
            let name = key.path.split('.').rev().find(|part| !["mode", "ca"].contains(part)).expect("a name");
            assert!(text.contains(name), "{} is missing in the file for a {role}", key.path);
        }
    }
}

#[test]
fn the_defaults_in_the_list_of_keys_are_those_in_force() {
    let config = read(&format!("{SOURCE}[serve]\ntokens_file = \"tokens.toml\"\n")).expect("valid");
    let region = read(REGION).expect("valid");
    for key in KEYS.iter().filter(|key| !key.default.is_empty() && !key.path.starts_with("primary.")) {
        let settings = if key.role == Some(Role::Region) { &region.settings } else { &config.settings };
        let setting = settings
            .iter()
            .find(|setting| setting.path == key.path)
            .unwrap_or_else(|| panic!("{}", key.path));
        let shown = match &setting.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            other => panic!("{}: {other:?}", key.path),
        };
        assert_eq!(shown, key.default, "{}", key.path);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9.\\[\\]{}=\"$ \n]{0,80}") {
        let _ = read(&text);
        let _ = read(&format!("{SOURCE}{text}"));
    }
}

#[test]
fn a_service_without_tls_listens_on_a_loopback_address_only() {
    let serve = |more: &str| format!("{SOURCE}[serve]\ntokens_file = \"tokens.toml\"\n{more}");
    for good in [
        "",
        "listen = \"127.0.0.1:0\"\n",
        "listen = \"[::1]:8443\"\n",
        "listen = \"0.0.0.0:8443\"\ntls = { cert = \"c\", key = \"k\" }\n",
        "listen = \"0.0.0.0:8080\"\nallow_plain = true\n",
    ] {
        let config = read(&serve(good)).unwrap_or_else(|error| panic!("{good}: {error}"));
        let serve = config.serve.expect("a service");
        assert_eq!(serve.tokens_file, Path::new("/etc/tablecast/tokens.toml"));
    }
    let plain = complaint(&serve("listen = \"0.0.0.0:8443\"\n"));
    assert!(plain.contains("clear text") && plain.contains("allow_plain"), "{plain}");
    assert!(complaint(&serve("listen = \"localhost\"\n")).contains("is not an address and a port"));
    assert!(complaint(&serve("tls = { cert = \"c\" }\n")).contains("stands without its key"));
    let none = complaint(&format!("{SOURCE}[serve]\n"));
    assert!(none.contains("`serve.tokens_file` is missing") && none.contains("tablecast token"), "{none}");
}

#[test]
fn a_password_file_that_is_not_there_is_found_without_a_connection() {
    let missing = super::Password::File("/no/such/password".into()).check().unwrap_err();
    assert!(missing.to_string().contains("/no/such/password") && missing.kind() == Kind::Usage, "{missing}");
    super::Password::Command("exit 1".to_owned()).check().expect("not run");
}

#[test]
fn whose_index_is_believed_is_said_in_full_or_not_at_all() {
    let key = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let region = read(&format!("{REGION}[trust]\npublic_keys = [\"{key}\"]\n")).expect("valid");
    assert_eq!(region.trusted.iter().map(ToString::to_string).collect::<Vec<_>>(), [key]);
    let source = read(&format!("{SOURCE}[sign]\nkey_file = \"sign.key\"\n")).expect("valid");
    assert_eq!(source.sign_key.as_deref(), Some(Path::new("/etc/tablecast/sign.key")));
    assert!(read(SOURCE).expect("valid").trusted.is_empty());
    for (text, says) in [
        (format!("{REGION}[trust]\n"), "[trust] names no key"),
        (format!("{REGION}[trust]\npublic_keys = []\n"), "[trust] names no key"),
        (
            format!("{REGION}[trust]\npublic_keys = [\"{key}\", \"{}\"]\n", &key[..70]),
            "key 2: it is no public key",
        ),
        (format!("{REGION}[sign]\nkey_file = \"k\"\n"), "[sign] belongs to a source's file"),
        (format!("{SOURCE}[sign]\n"), "[sign] names no key"),
        // Not repeated: it is a secret.
        (format!("{REGION}[trust]\npublic_keys = [\"tablecast_sign_0123\"]\n"), "key 1: it is no public key"),
    ] {
        let complaint = complaint(&text);
        assert!(complaint.contains(says), "{complaint}");
        assert!(!complaint.contains("tablecast_sign_0123"), "{complaint}");
    }
}

#[test]
fn a_region_that_cannot_ask_well_is_warned() {
    let warned = |more: &str| read(&format!("{REGION}{more}")).expect("valid").warnings.join("\n");
    let token = "token_file = \"/no/such/token\"\n";
    assert_eq!(warned(&format!("source_url = \"https://source:8443\"\n{token}")), "");
    assert_eq!(warned(&format!("source_url = \"http://127.0.0.1:8443\"\n{token}")), "");
    assert_eq!(warned(&format!("source_url = \"http://[::1]:8443\"\n{token}")), "");
    assert!(warned(&format!("source_url = \"http://source:8443\"\n{token}")).contains("clear text"));
    assert!(warned("source_url = \"https://source:8443\"\n").contains("no token_file"));
    let ca = complaint(&format!("{REGION}source_url = \"http://source\"\nsource_ca = \"ca.pem\"\n"));
    assert!(ca.contains("`region.source_ca`: has no meaning"), "{ca}");
}
