//! The little of Markdown that the runbooks are written in, as HTML: headings with anchors as on GitHub, paragraphs, lists, tables,
//! code, links. What it does not know stays text.

use super::markup::Html;

/// Where a link leads.
pub enum Target {
    Url(String),
    /// To a page that is not served here; its path is told instead.
    Elsewhere(String),
}

type Resolve<'a> = &'a dyn Fn(&str) -> Target;

/// A page.
pub fn html(text: &str, resolve: Resolve<'_>) -> Html {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut at) = (Html::new(), 0);
    while at < lines.len() {
        at += block(&lines[at..], resolve, &mut out);
    }
    out
}

/// Appends the block that begins here; how many lines it has.
fn block(lines: &[&str], resolve: Resolve<'_>, out: &mut Html) -> usize {
    let line = lines[0];
    if line.trim().is_empty() || line.starts_with("<!--") {
        return 1;
    }
    if let Some((level, title)) = heading(line) {
        let (id, title) = (slug(title), inline(title, resolve));
        match level {
            1 => out.add("<h1 id=\"{}\">{}</h1>", &[&id, &title]),
            2 => out.add("<h2 id=\"{}\">{}</h2>", &[&id, &title]),
            _ => out.add("<h3 id=\"{}\">{}</h3>", &[&id, &title]),
        };
        return 1;
    }
    if line.starts_with("```") {
        let code = lines[1..].iter().take_while(|line| !line.starts_with("```"));
        let (code, count) = (code.clone().copied().collect::<Vec<_>>().join("\n"), code.count());
        out.add("<pre tabindex=\"0\"><code>{}</code></pre>", &[&code]);
        return (count + 2).min(lines.len());
    }
    if line.starts_with("    ") {
        let code = lines.iter().take_while(|line| line.starts_with("    ") || line.trim().is_empty());
        let code: Vec<&str> = code.map(|line| line.get(4..).unwrap_or_default()).collect();
        out.add("<pre tabindex=\"0\"><code>{}</code></pre>", &[&code.join("\n").trim_end()]);
        return code.len();
    }
    if line.starts_with('|') && lines.get(1).is_some_and(|next| next.starts_with("|-")) {
        return table(lines, resolve, out);
    }
    if item(line).is_some() {
        return list(lines, resolve, out);
    }
    let paragraph: Vec<&str> = lines.iter().copied().take_while(|line| continues(line)).collect();
    out.add("<p>{}</p>", &[&inline(&paragraph.join(" "), resolve)]);
    paragraph.len().max(1)
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    (1..=6)
        .contains(&level)
        .then(|| line[level..].strip_prefix(' '))
        .flatten()
        .map(|title| (level, title.trim()))
}

/// Whether a line goes on with the paragraph before it.
fn continues(line: &str) -> bool {
    !line.trim().is_empty()
        && heading(line).is_none()
        && !line.starts_with("```")
        && !line.starts_with('|')
        && item(line).is_none()
}

/// The text of an item, and whether items are numbered.
fn item(line: &str) -> Option<(bool, &str)> {
    if let Some(text) = line.strip_prefix("- ") {
        return Some((false, text));
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let text = line.get(digits..)?.strip_prefix(". ")?;
    (digits > 0).then_some((true, text))
}

fn list(lines: &[&str], resolve: Resolve<'_>, out: &mut Html) -> usize {
    let is_numbered = item(lines[0]).is_some_and(|(is_numbered, _)| is_numbered);
    let (mut items, mut at) = (Html::new(), 0);
    while let Some((same, text)) = lines.get(at).and_then(|line| item(line)) {
        if same != is_numbered {
            break;
        }
        at += 1;
        let more: Vec<&str> = lines[at..]
            .iter()
            .copied()
            .take_while(|line| line.starts_with("  ") && continues(line))
            .collect();
        at += more.len();
        let text =
            std::iter::once(text).chain(more.iter().map(|line| line.trim())).collect::<Vec<_>>().join(" ");
        // What stands indented behind a blank line belongs to the item, too.
        let mut inner = Html::new();
        while lines.get(at).is_some_and(|line| line.trim().is_empty())
            && lines.get(at + 1).is_some_and(|line| line.starts_with("   "))
        {
            let rest: Vec<&str> =
                lines[at + 1..].iter().copied().take_while(|line| line.starts_with("   ")).collect();
            let unindented: Vec<&str> = rest.iter().map(|line| &line[3..]).collect();
            let mut done = 0;
            while done < unindented.len() {
                done += block(&unindented[done..], resolve, &mut inner);
            }
            at += 1 + rest.len();
        }
        items.add("<li>{}{}</li>", &[&inline(&text, resolve), &inner]);
        // Items may stand apart.
        if lines.get(at).is_some_and(|line| line.trim().is_empty())
            && lines.get(at + 1).is_some_and(|line| item(line).is_some())
        {
            at += 1;
        }
    }
    match is_numbered {
        true => out.add("<ol>{}</ol>", &[&items]),
        false => out.add("<ul>{}</ul>", &[&items]),
    };
    at
}

fn table(lines: &[&str], resolve: Resolve<'_>, out: &mut Html) -> usize {
    let rows: Vec<&str> = lines.iter().copied().take_while(|line| line.starts_with('|')).collect();
    let head: Html = cells(rows[0])
        .iter()
        .map(|cell| Html::of("<th scope=\"col\">{}</th>", &[&inline(cell, resolve)]))
        .collect();
    let body: Html = rows[2..]
        .iter()
        .map(|row| {
            let cells =
                cells(row).into_iter().map(|cell| Html::of("<td>{}</td>", &[&inline(&cell, resolve)]));
            Html::of("<tr>{}</tr>", &[&cells.collect::<Html>()])
        })
        .collect();
    out.add(
        "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        &[&head, &body],
    );
    rows.len()
}

/// The cells of a row; a `\|` is text.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().replace("\\|", "\u{1}");
    let row = row.trim_start_matches('|');
    let row = row.strip_suffix('|').unwrap_or(row);
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// A heading's anchor, as GitHub makes it.
fn slug(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn inline(text: &str, resolve: Resolve<'_>) -> Html {
    let (mut out, mut rest) = (Html::new(), text);
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(at);
        out.add("{}", &[&before]);
        let (piece, length) =
            span(from, before, resolve).unwrap_or_else(|| (Html::of("{}", &[&&from[..1]]), 1));
        out.add("{}", &[&piece]);
        rest = &from[length..];
    }
    out.add("{}", &[&rest]);
    out
}

/// What begins with this mark, and its length; `None`: the mark is text.
fn span(from: &str, before: &str, resolve: Resolve<'_>) -> Option<(Html, usize)> {
    let between = |mark: &str| {
        let inner = from.strip_prefix(mark)?;
        let end = inner.find(mark)?;
        (end > 0 && !inner.starts_with(' ')).then(|| (&inner[..end], end + 2 * mark.len()))
    };
    if from.starts_with('`') {
        let (inner, length) = between("`")?;
        return Some((Html::of("<code>{}</code>", &[&inner]), length));
    }
    if from.starts_with("**") {
        let (inner, length) = between("**")?;
        return Some((Html::of("<strong>{}</strong>", &[&inline(inner, resolve)]), length));
    }
    if from.starts_with('*') {
        // `g.*` is no emphasis.
        let (inner, length) =
            between("*").filter(|_| !before.ends_with(|c: char| c.is_alphanumeric() || c == '.'))?;
        return Some((Html::of("<em>{}</em>", &[&inline(inner, resolve)]), length));
    }
    let end = from.find("](")?;
    let close = from[end..].find(')')? + end;
    let (inner, link) = (inline(&from[1..end], resolve), &from[end + 2..close]);
    let html = match resolve(link) {
        Target::Url(url) => Html::of("<a href=\"{}\">{}</a>", &[&url, &inner]),
        Target::Elsewhere(path) => Html::of("{} <span class=\"dim\">({})</span>", &[&inner, &path]),
    };
    Some((html, close + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> String {
        let resolve = |link: &str| match link.starts_with("x") {
            true => Target::Elsewhere(format!("docs/{link}")),
            false => Target::Url(link.to_owned()),
        };
        html(text, &resolve).into_string()
    }

    #[test]
    fn what_the_runbooks_use_comes_out_as_html() {
        assert_eq!(
            made("# A *b* `c`\n\ntext <b>\ngoes **on** in g.* and g.*\n"),
            "<h1 id=\"a-b-c\">A <em>b</em> <code>c</code></h1><p>text &lt;b&gt; goes <strong>on</strong> in g.* and g.*</p>"
        );
        assert_eq!(
            made("    a\n\n    b <c>\n\ntext"),
            "<pre tabindex=\"0\"><code>a\n\nb &lt;c&gt;</code></pre><p>text</p>"
        );
        assert_eq!(made("1. one\n   more\n2. two\n"), "<ol><li>one more</li><li>two</li></ol>");
        assert_eq!(
            made("[a](b.md#c) and [d](x.md)"),
            "<p><a href=\"b.md#c\">a</a> and d <span class=\"dim\">(docs/x.md)</span></p>"
        );
        let table = made("| a | b |\n|---|---|\n| `x\\|y` | 2 |\n");
        assert!(
            table.contains("<th scope=\"col\">a</th>")
                && table.contains("<td><code>x|y</code></td><td>2</td>"),
            "{table}"
        );
        assert_eq!(slug("D. The index is not what it was"), "d-the-index-is-not-what-it-was");
        // A mark without its other half is text, and nothing panics.
        for odd in ["`", "*a", "**", "[a", "[a](", "|", "- ", "1. ", "```", "é*é", "    "] {
            made(odd);
        }
    }
}
