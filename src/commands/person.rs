//! Who runs this, as far as the environment tells.

/// `anna on db1`: a name for people, no proof of anything.
pub fn person() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = set("SUDO_USER").or_else(|| set("LOGNAME")).or_else(|| set("USER"))?;
    let on = host().map_or_else(String::new, |host| format!(" on {host}"));
    // Beside an account's name there is room for so much.
    Some(format!("{user}{on}").chars().filter(|c| !c.is_control()).take(100).collect())
}

/// The machine's name.
pub fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
