//! Tables of the page: real ones, with headers for whoever hears them, that become lists of facts on a phone.

use super::markup::{Html, Part};

/// A table; the first cell of each row is its header.
pub fn table(
    caption: &str,
    class: &'static str,
    header: &[&'static str],
    rows: impl Iterator<Item = Vec<Html>>,
) -> Html {
    let columns: Html = header
        .iter()
        .map(|name| Html::of("<th role=\"columnheader\" scope=\"col\">{}</th>", &[name]))
        .collect();
    let body: Html = rows
        .map(|cells| {
            let cells = header.iter().zip(cells).enumerate().map(|(at, (name, cell))| match at {
                0 => Html::of("<th role=\"rowheader\" scope=\"row\">{}</th>", &[&cell]),
                _ => Html::of("<td role=\"cell\" data-label=\"{}\">{}</td>", &[name, &cell]),
            });
            Html::of("<tr role=\"row\">{}</tr>", &[&cells.collect::<Html>()])
        })
        .collect();
    Html::of(
        "<table role=\"table\" class=\"{}\"><caption class=\"heard\">{}</caption><thead role=\"rowgroup\"><tr role=\"row\">{}</tr>\
         </thead><tbody role=\"rowgroup\">{}</tbody></table>",
        &[&class, &caption, &columns, &body],
    )
}

/// Text alone.
pub fn text(text: impl Part) -> Html {
    Html::of("{}", &[&text])
}

/// Facts by name.
pub fn facts(facts: &[(&'static str, Html)]) -> Html {
    let items: Html = facts
        .iter()
        .map(|(name, value)| Html::of("<div><dt>{}</dt><dd>{}</dd></div>", &[name, value]))
        .collect();
    Html::of("<dl class=\"facts\">{}</dl>", &[&items])
}
