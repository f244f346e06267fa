//! HTML that cannot be broken out of: a template is part of the program, and whatever is put into it is text, unless it is
//! HTML made the same way. What regions write of themselves (names, errors, reasons) is hostile until it has gone through here.

use std::fmt::Write as _;

/// A piece of HTML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Html(String);

/// What may stand in a template's place.
pub trait Part {
    fn put(&self, out: &mut String);
}

impl Html {
    pub const fn new() -> Html {
        Html(String::new())
    }

    /// A template with a `{}` for each part.
    pub fn of(template: &'static str, parts: &[&dyn Part]) -> Html {
        let mut html = Html::new();
        html.add(template, parts);
        html
    }

    /// Appends a template with a `{}` for each part.
    pub fn add(&mut self, template: &'static str, parts: &[&dyn Part]) -> &mut Html {
        let mut pieces = template.split("{}");
        self.0.push_str(pieces.next().unwrap_or_default());
        let mut given = parts.iter();
        for piece in pieces {
            match given.next() {
                Some(part) => part.put(&mut self.0),
                None => debug_assert!(false, "a place without a part: {template}"),
            }
            self.0.push_str(piece);
        }
        debug_assert!(given.next().is_none(), "a part without a place: {template}");
        self
    }

    /// Appends a text of the program's own as it is.
    pub fn and_static(mut self, html: &'static str) -> Html {
        self.0.push_str(html);
        self
    }

    pub fn into_string(self) -> String {
        self.0
    }

    /// Text in which a command stands in backquotes.
    pub fn with_code(text: &str) -> Html {
        let mut html = Html::new();
        for (at, piece) in text.split('`').enumerate() {
            match at % 2 {
                0 => html.add("{}", &[&piece]),
                _ => html.add("<code>{}</code>", &[&piece]),
            };
        }
        html
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<T: IntoIterator<Item = Html>>(pieces: T) -> Html {
        let mut all = Html::new();
        pieces.into_iter().for_each(|piece| all.0.push_str(&piece.0));
        all
    }
}

impl Part for Html {
    fn put(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

impl Part for &str {
    fn put(&self, out: &mut String) {
        escape(self, out);
    }
}

impl Part for String {
    fn put(&self, out: &mut String) {
        escape(self, out);
    }
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Part for $kind {
            fn put(&self, out: &mut String) {
                // Writing to a String cannot fail.
                let _ = write!(out, "{self}");
            }
        }
    )*};
}

plain!(u64, u32, usize);

/// Text as HTML text, or as the value of an attribute in double quotes. What is no character that a page may hold, or would
/// turn the text around it (the controls of bidirectional text), is shown as the sign for "unreadable".
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                out.push('\u{fffd}')
            }
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_put_in_is_more_than_text() {
        let hostile = "</td><script>alert('x')</script>\" onload=\"y\0\u{202e}&amp;";
        let html = Html::of("<td title=\"{}\">{}</td>", &[&hostile, &7u64]).into_string();
        let escaped = "&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=&quot;y\u{fffd}\u{fffd}&amp;amp;";
        assert_eq!(html, format!("<td title=\"{escaped}\">7</td>"));
        assert_eq!(Html::with_code("run `a <b>` now").into_string(), "run <code>a &lt;b&gt;</code> now");
        let twice = Html::of("<p>{}</p>", &[&Html::of("<b>{}</b>", &[&"<"])]);
        assert_eq!(twice.into_string(), "<p><b>&lt;</b></p>");
    }
}
