//! A small chart as inline SVG: lag, and transactions a minute, over the last hours. Times of which nothing is known are hatched,
//! so that a gap is never taken for a zero.

use chrono::{DateTime, TimeDelta, Utc};

use super::history::{GAP, Point, Track};
use super::markup::Html;
use crate::figures::{duration, number};
use crate::http::regions::BEHIND_AFTER;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 60.0;
/// More points than pixels only make the page larger.
const MOST: usize = 240;
/// The tops that a chart of lag may have, in seconds.
const LAGS: [f64; 13] = [
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0,
];

/// A span of time on the page, and where its moments are.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub now: DateTime<Utc>,
    pub hours: u32,
}

impl Window {
    fn begin(&self) -> DateTime<Utc> {
        self.now - TimeDelta::hours(self.hours.into())
    }

    fn x(&self, at: DateTime<Utc>) -> f64 {
        let part = (at - self.begin()).num_milliseconds() as f64 / (f64::from(self.hours) * 3_600_000.0);
        (part * WIDTH).clamp(0.0, WIDTH)
    }
}

/// A line of values between two gaps.
type Run = Vec<(DateTime<Utc>, f64)>;

/// The two charts of a region or of the stream. `name`: whose; `verb`: what its transactions are, `applied` or `shipped`.
pub fn charts(track: &Track, window: Window, name: &str, verb: &'static str) -> Html {
    let points = track.from(window.begin());
    let since = track.since().filter(|since| *since > window.begin());
    let lags = runs(&points, |_, to| to.lag.map(f64::from), true);
    let rates = runs(&points, rate, false);
    let lag = Chart {
        title: "Lag",
        top: top(&lags, &LAGS),
        shown: |value| duration(std::time::Duration::from_secs(value as u64)),
        runs: lags,
        is_step: false,
        limit: Some(BEHIND_AFTER.num_seconds() as f64),
    };
    let rate = Chart {
        title: if verb == "shipped" { "Shipped a minute" } else { "Applied a minute" },
        top: round_top(&rates),
        shown: |value| number(value.round() as u64),
        runs: rates,
        is_step: true,
        limit: None,
    };
    let note = match since {
        Some(since) => format!("known since {}", since.format("%H:%M UTC")),
        None if points.is_empty() => "nothing known yet".to_owned(),
        None => String::new(),
    };
    Html::of(
        "<div class=\"charts\">{}{}</div>",
        &[&lag.draw(window, name, &note), &rate.draw(window, name, &note)],
    )
}

/// A line of lag alone, for a cell of a table; for eyes only, since the numbers stand beside it.
pub fn spark(track: &Track, window: Window) -> Html {
    let points = track.from(window.begin());
    let lags = runs(&points, |_, to| to.lag.map(f64::from), true);
    let top = top(&lags, &LAGS);
    Html::of(
        "<svg class=\"spark\" viewBox=\"0 0 600 60\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\">{}{}</svg>",
        &[&gaps(&lags, window), &path(&lags, window, top, false)],
    )
}

/// Transactions a minute between two points; `None` where the later one has fewer.
fn rate(from: Option<&Point>, to: &Point) -> Option<f64> {
    let from = from?;
    let seconds = (to.at - from.at).num_milliseconds() as f64 / 1_000.0;
    Some(to.tx.checked_sub(from.tx)? as f64 * 60.0 / seconds.max(1.0))
}

/// The values in runs without a gap. `alone`: a value that stands by itself is a run.
fn runs(points: &[Point], value: impl Fn(Option<&Point>, &Point) -> Option<f64>, alone: bool) -> Vec<Run> {
    let (mut all, mut run) = (Vec::new(), Run::new());
    let mut before: Option<&Point> = None;
    for point in points {
        let near = before.filter(|before| point.at - before.at <= GAP);
        let value = value(near, point);
        if near.is_none() || value.is_none() {
            all.push(std::mem::take(&mut run));
        }
        if let Some(value) = value {
            if run.is_empty() && !alone {
                // A rate holds from the point before on.
                run.extend(near.map(|near| (near.at, value)));
            }
            run.push((point.at, value));
        }
        before = Some(point);
    }
    all.push(run);
    all.retain(|run| !run.is_empty());
    let total: usize = all.iter().map(Vec::len).sum();
    let every = total.div_ceil(MOST).max(1);
    all.into_iter().map(|run| thin(run, every)).collect()
}

/// The highest of every so many, so that no peak is lost; the ends stay where they are.
fn thin(run: Run, every: usize) -> Run {
    if every == 1 {
        return run;
    }
    let (first, last) = (run.first().copied(), run.last().copied());
    let highest = |chunk: &[(DateTime<Utc>, f64)]| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    let mut thinned: Run = run.chunks(every).filter_map(highest).collect();
    thinned.extend(last.filter(|last| thinned.last() != Some(last)));
    if let Some(first) = first.filter(|first| thinned.first() != Some(first)) {
        thinned.insert(0, first);
    }
    thinned
}

fn highest(runs: &[Run]) -> Option<(DateTime<Utc>, f64)> {
    runs.iter().flatten().copied().max_by(|a, b| a.1.total_cmp(&b.1))
}

fn top(runs: &[Run], tops: &[f64]) -> f64 {
    let highest = highest(runs).map_or(0.0, |(_, value)| value);
    tops.iter().copied().find(|top| *top >= highest).unwrap_or(highest)
}

fn round_top(runs: &[Run]) -> f64 {
    let highest = highest(runs).map_or(0.0, |(_, value)| value).max(10.0);
    let power = 10f64.powf(highest.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|top| *top >= highest)
        .unwrap_or(highest)
}

struct Chart {
    title: &'static str,
    top: f64,
    shown: fn(f64) -> String,
    runs: Vec<Run>,
    is_step: bool,
    limit: Option<f64>,
}

impl Chart {
    fn draw(&self, window: Window, name: &str, note: &str) -> Html {
        let newest = self.runs.last().and_then(|run| run.last()).filter(|(at, _)| window.now - *at <= GAP);
        let newest = newest.map_or_else(|| "unknown".to_owned(), |(_, value)| (self.shown)(*value));
        let highest = highest(&self.runs)
            .map(|(at, value)| format!("highest {} at {}", (self.shown)(value), at.format("%H:%M")));
        let about = [highest.unwrap_or_default(), note.to_owned()];
        let about = about.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(", ");
        let hours = if window.hours == 1 {
            "the last hour".to_owned()
        } else {
            format!("the last {} hours", window.hours)
        };
        let label = format!(
            "{} of {name} over {hours}: last {newest}, {about}; hatched where nothing is known",
            self.title
        );
        let limit = self.limit.filter(|limit| *limit < self.top).map_or_else(Html::new, |limit| {
            let y = y(limit, self.top);
            Html::of("<path class=\"limit\" d=\"M0 {}H600\"/>", &[&y])
        });
        let (begin, middle) = (window.begin(), window.now - TimeDelta::minutes(i64::from(window.hours) * 30));
        let clock = |at: DateTime<Utc>| at.format("%H:%M").to_string();
        Html::of(
            "<figure><figcaption><strong>{}</strong> last {}<span class=\"dim\">{}</span></figcaption>\
             <div class=\"plot\"><span class=\"top\" aria-hidden=\"true\">{}</span>\
             <svg viewBox=\"0 0 600 60\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{}\
             <path class=\"grid\" d=\"M0 .5H600M0 59.5H600\"/>{}{}</svg></div>\
             <div class=\"axis\" aria-hidden=\"true\"><span>{}</span><span>{}</span><span>{} UTC</span></div></figure>",
            &[
                &self.title,
                &newest,
                &if about.is_empty() { String::new() } else { format!(", {about}") },
                &(self.shown)(self.top),
                &label,
                &gaps(&self.runs, window),
                &path(&self.runs, window, self.top, self.is_step),
                &limit,
                &clock(begin),
                &clock(middle),
                &clock(window.now),
            ],
        )
    }
}

/// One decimal: a tenth of a pixel.
fn fine(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn y(value: f64, top: f64) -> String {
    fine(HEIGHT - 1.0 - (value / top.max(1.0)).min(1.0) * (HEIGHT - 3.0))
}

/// Area and line of every run.
fn path(runs: &[Run], window: Window, top: f64, is_step: bool) -> Html {
    let (mut line, mut area) = (String::new(), String::new());
    for run in runs {
        let mut drawn = String::new();
        let mut ends = (0.0, 0.0);
        for (number, (at, value)) in run.iter().enumerate() {
            let (x, y) = (window.x(*at), y(*value, top));
            if number == 0 {
                ends.0 = x;
                drawn.push_str(&format!("{} {y}", fine(x)));
            } else if is_step {
                // A rate holds for the time that ends at its point.
                drawn.push_str(&format!("V{y}H{}", fine(x)));
            } else {
                drawn.push_str(&format!("L{} {y}", fine(x)));
            }
            ends.1 = x;
        }
        // One value alone is a dot that can be seen.
        if run.len() == 1 {
            drawn.push_str("h2");
            ends.1 += 2.0;
        }
        line.push_str(&format!("M{drawn}"));
        area.push_str(&format!("M{drawn}V59H{}Z", fine(ends.0)));
    }
    Html::of("<path class=\"area\" d=\"{}\"/><path class=\"line\" d=\"{}\"/>", &[&area, &line])
}

/// What lies between the runs. What is not told yet, because the next report is to come, is no gap.
fn gaps(runs: &[Run], window: Window) -> Html {
    let mut gaps = Html::new();
    let mut end = window.begin();
    let now = std::iter::once((window.now, window.now));
    let known = runs.iter().filter_map(|run| Some((run.first()?.0, run.last()?.0)));
    for (from, to) in known.chain(now) {
        let is_gap = from - end > if from == window.now { GAP } else { TimeDelta::zero() };
        if is_gap && window.x(from) > window.x(end) {
            let (x, width) = (fine(window.x(end)), fine(window.x(from) - window.x(end)));
            gaps.add(
                "<rect class=\"gap\" x=\"{}\" y=\"0\" width=\"{}\" height=\"60\" fill=\"url(#gap)\"/>",
                &[&x, &width],
            );
        }
        end = end.max(to);
    }
    gaps
}

/// What the charts of a page share.
pub fn definitions() -> Html {
    Html::of(
        "<svg class=\"defs\" width=\"0\" height=\"0\" aria-hidden=\"true\" focusable=\"false\"><defs>\
         <pattern id=\"gap\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <path d=\"M0 0V8\"/></pattern></defs></svg>",
        &[],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_248_000 + minute * 60, 0).expect("a time")
    }

    fn point(minute: i64, lag: u32, tx: u64) -> Point {
        Point { at: at(minute), lag: Some(lag), tx }
    }

    #[test]
    fn a_time_without_reports_is_a_gap_and_never_a_zero() {
        let points =
            [point(0, 3, 100), point(1, 4, 160), point(20, 5, 160), point(21, 600, 280), point(22, 5, 100)];
        let lags = runs(&points, |_, to| to.lag.map(f64::from), true);
        assert_eq!(lags.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
        let rates = runs(&points, rate, false);
        // 60 a minute, then unknown, then 120 a minute, then a region that began anew.
        assert_eq!(rates, [vec![(at(0), 60.0), (at(1), 60.0)], vec![(at(20), 120.0), (at(21), 120.0)]]);
        let window = Window { now: at(60), hours: 1 };
        let drawn = gaps(&lags, window).into_string();
        assert_eq!(drawn.matches("<rect").count(), 2, "between the two, and since the last: {drawn}");
        assert!(drawn.contains("x=\"10\" y=\"0\" width=\"190\""), "{drawn}");
        // Short of the next report nothing is missing.
        assert_eq!(gaps(&lags, Window { now: at(26), hours: 1 }).into_string().matches("<rect").count(), 2);
        assert_eq!(gaps(&[], window).into_string().matches("width=\"600\"").count(), 1);
    }

    #[test]
    fn no_peak_is_lost_where_a_day_is_drawn() {
        let run: Run =
            (0..1_440).map(|minute| (at(minute), if minute == 777 { 9_000.0 } else { 1.0 })).collect();
        let thinned = thin(run, 6);
        assert!(thinned.len() <= 242, "{}", thinned.len());
        assert_eq!((thinned[0].0, thinned.last().unwrap().0), (at(0), at(1_439)));
        assert_eq!(highest(&[thinned]), Some((at(777), 9_000.0)));
    }

    #[test]
    fn the_top_of_a_chart_is_a_round_number() {
        let of = |value: f64| vec![vec![(at(0), value)]];
        assert_eq!(
            (top(&of(0.0), &LAGS), top(&of(11.0), &LAGS), top(&of(700_000.0), &LAGS)),
            (10.0, 30.0, 700_000.0)
        );
        assert_eq!(
            (round_top(&of(0.0)), round_top(&of(1_234.0)), round_top(&of(50.0))),
            (10.0, 2_000.0, 50.0)
        );
    }
}
