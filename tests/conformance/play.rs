//! Plays a case's script on a server, byte for byte.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::case::{Case, Step};
use crate::support::mysql::Server;

/// Plays a case's script, each of its sessions on a connection of its own.
pub async fn play(server: &Server, case: &Case, steps: &[Step], use_schema: bool) -> Result<(), String> {
    let mut sessions: HashMap<u32, Conn> = HashMap::new();
    let mut now = 1;
    for step in steps {
        let (text, fails) = match step {
            Step::Session(number) => {
                now = *number;
                continue;
            }
            Step::Statement { text, fails } => (text, *fails),
        };
        if let Entry::Vacant(slot) = sessions.entry(now) {
            let conn = slot.insert(server.connect().await);
            if use_schema {
                conn.query_drop(format!("USE `{}`", case.schema())).await.map_err(|e| e.to_string())?;
            }
        }
        let outcome = sessions.get_mut(&now).unwrap().query_drop(text.as_slice()).await;
        let shown = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        match outcome {
            Err(e) if !fails => return Err(format!("{shown}: {e}")),
            Ok(()) if fails => return Err(format!("{shown}: went through, the case says that it fails")),
            _ => {}
        }
    }
    for (_, conn) in sessions {
        conn.disconnect().await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
