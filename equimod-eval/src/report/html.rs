//! The HTML page.

use std::fmt::Write;

use super::images::{image_rows, pairs};
use super::{Bar, Bars, Figure, ReportData, Table, escape, figure};
use crate::results::{ResultRow, TOP_1, cells, common_detail};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c1f24;--quiet:#5b6470;--page:#fff;--line:#d8dce2;--band:#f4f6f8;
--c0:#2563b8;--c1:#c2501a;--c2:#2f855a;--c3:#8541b0;--c4:#a3760b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--quiet:#9aa4b1;--page:#15181c;--line:#343b44;--band:#1e2329;
--c0:#6ea8f2;--c1:#f08c55;--c2:#6cc295;--c3:#c08be0;--c4:#e0b64a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:68rem;font:16px/1.5 system-ui,sans-serif;
  color:var(--ink);background:var(--page)}
h1{font-size:1.6rem;line-height:1.2;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .6rem}
p.summary,figcaption,dt,footer{color:var(--quiet)}
ul.verdict{list-style:none;margin:1rem 0;padding:.8rem 1rem;background:var(--band);border-left:.3rem solid var(--c0)}
ul.verdict li{margin:.2rem 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{white-space:nowrap;font-weight:600}td{font-variant-numeric:tabular-nums}
table:not(.results) th{white-space:normal}
td.value{font-weight:600}td.value,td.number{white-space:nowrap}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.3rem 1.2rem;margin:0}
dl.facts div{display:flex;gap:.5rem;justify-content:space-between;border-bottom:1px solid var(--line);padding:.15rem 0}
dd{margin:0;text-align:right;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1.2rem}
figure{margin:0;min-width:0}figcaption{overflow-wrap:anywhere}svg{width:100%;height:auto;display:block}
svg text{fill:var(--quiet);font:11px system-ui,sans-serif}svg .axis{stroke:var(--line)}
svg .interval{stroke:var(--ink);stroke-width:1.4}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem}
.legend i{display:inline-block;width:.9em;height:.25em;margin-right:.4em;vertical-align:middle}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(46%,9rem),1fr));gap:1rem;padding:.8rem 0;
  border-bottom:1px solid var(--line)}
.row img{width:96px;height:96px;image-rendering:pixelated;background:#fff;border:1px solid var(--line)}
figure.right img{outline:2px solid var(--c2)}figure.wrong img{outline:2px solid var(--c1)}
.row dl{margin:.3rem 0 0;font-size:.82rem}.row dl div{display:flex;gap:.5rem}.row dd{text-align:left}
pre{background:var(--band);padding:.8rem;overflow-x:auto;font-size:.82rem;line-height:1.4}
pre.notice{white-space:pre-wrap}
@media(max-width:40rem){thead{display:none}table,tbody,tr,td{display:block}
  tr{padding:.5rem 0;border-bottom:1px solid var(--line)}
td{display:flex;gap:1rem;justify-content:space-between;border:0;padding:.1rem 0;text-align:right}
td.none{display:none}
td::before{content:attr(data-label);color:var(--quiet);text-align:left}}
summary h2{display:inline-block}summary{cursor:pointer}
@media print{details::details-content{content-visibility:visible;block-size:auto}body{max-width:none;padding:0}h2{break-after:avoid}figure,.row,tr{break-inside:avoid}}
";

/// Content-Security-Policy: only the page's own style and images are allowed.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The report as an HTML page.
pub fn render(data: &ReportData) -> String {
    let mut body = format!("<h1>{}</h1><p class=\"summary\">{}</p>", escape(&data.title), escape(&data.summary));
    let verdict: String = data.verdict.iter().map(|one| format!("<li>{}</li>", escape(one))).collect();
    if !verdict.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(body, "<ul class=\"verdict\">{verdict}</ul>");
    }
    data.lead.iter().for_each(|one| section(&mut body, &one.title, &figures(&one.figures)));
    section(&mut body, "At a glance", &figures(&glance(&data.results)));
    let (headings, rows) = cells(&data.results, true);
    let below = common_detail(&data.results).map_or_else(String::new, |detail| format!("<p>{}</p>", escape(detail)));
    section(&mut body, "Results", &(table(&Table { headings, rows }, "results") + &below));
    for one in &data.sections {
        let write = if one.folded { folded } else { section };
        write(&mut body, &one.title, &figures(&one.figures));
    }
    section(&mut body, "The run", &facts(&data.facts));
    let recipe = format!("<pre>{}</pre>", escape(&data.recipe));
    folded(&mut body, "Recipe", if data.recipe.is_empty() { "" } else { &recipe });
    let notices: String = data.notices.iter().map(|n| format!("<pre class=\"notice\">{}</pre>", escape(n))).collect();
    folded(&mut body, "License notice of the images", &notices);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta http-equiv=\"Content-Security-Policy\" \
          content=\"{POLICY}\">\
         <link rel=\"icon\" href=\"data:,\"><title>{}</title>\
         <style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(&data.title)
    )
}

fn section(body: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(body, "<section><h2>{}</h2>{content}</section>", escape(title));
    }
}

/// A section that opens on a click; it is always open in print.
fn folded(body: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(body, "<details><summary><h2>{}</h2></summary>{content}</details>", escape(title));
    }
}

/// A value of a row that measures are held against: its name and its place.
type Reference = (&'static str, fn(&ResultRow) -> Option<f64>);

const REFERENCES: [Reference; 3] =
    [("baseline", |row| row.baseline), ("untrained", |row| row.untrained), ("chance", |row| row.chance)];

/// Chart of the measures that have a value of the untrained network or the baseline, in per cent.
fn glance(rows: &[ResultRow]) -> Vec<Figure> {
    let compared = |row: &&ResultRow| row.is_share() && (row.untrained.is_some() || row.baseline.is_some());
    let rows: Vec<&ResultRow> = rows.iter().filter(compared).collect();
    let shown: Vec<Reference> =
        REFERENCES.into_iter().filter(|(_, of)| rows.iter().any(|row| of(row).is_some())).collect();
    let bar = |row: &&ResultRow| Bar {
        // Protocols with several metrics have a bar for each.
        label: format!("{}, {}", row.task, if row.metric == TOP_1 { &row.protocol } else { &row.metric }),
        value: 100.0 * row.value,
        interval: row.interval.map(|(low, high)| (100.0 * low, 100.0 * high)),
        references: shown.iter().map(|(_, of)| of(row).map(|value| 100.0 * value)).collect(),
    };
    let chart = Bars {
        title: "per cent, with 95 % intervals over test images".into(),
        name: "trained".into(),
        references: shown.iter().map(|(name, _)| (*name).to_owned()).collect(),
        bars: rows.iter().map(bar).collect(),
    };
    if chart.bars.is_empty() { Vec::new() } else { vec![Figure::Bars(chart)] }
}

/// Consecutive drawings share a grid; every other figure has a line of its own.
fn figures(all: &[Figure]) -> String {
    let mut text = String::new();
    for group in all.chunk_by(|a, b| is_drawing(a) && is_drawing(b)) {
        match &group[0] {
            Figure::Table(one) => text += &table(one, ""),
            Figure::Images(rows) => text += &image_rows(rows),
            Figure::Text(one) => text += &format!("<p>{}</p>", escape(one)),
            _ => {
                let drawn: String = group.iter().filter_map(figure).collect();
                if !drawn.is_empty() {
                    text += &format!("<div class=\"plots\">{drawn}</div>");
                }
            }
        }
    }
    text
}

fn is_drawing(figure: &Figure) -> bool {
    !matches!(figure, Figure::Table(_) | Figure::Images(_) | Figure::Text(_))
}

fn table(Table { headings, rows }: &Table, class: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads: String = headings.iter().map(|h| format!("<th>{}</th>", escape(h))).collect();
    let cell = |(cell, head): (&String, &String)| {
        let kind = match head.as_str() {
            "value" => " class=\"value\"",
            "95 % interval" | "baseline" | "untrained" | "chance" if cell != "–" => " class=\"number\"",
            _ if cell == "–" => " class=\"none\"",
            _ => "",
        };
        format!("<td{kind} data-label=\"{}\">{}</td>", escape(head), escape(cell))
    };
    let row = |cells: &Vec<String>| cells.iter().zip(headings).map(cell).collect::<String>();
    let rows: String = rows.iter().map(|cells| format!("<tr>{}</tr>", row(cells))).collect();
    format!(
        "<div class=\"scroll\"><table \
         class=\"{class}\"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn facts(facts: &[(String, String)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    format!("<dl class=\"facts\">{}</dl>", pairs(facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::Bin;
    use crate::report::{
        BandLine, BandPlot, EffectRow, Effects, ImageRow, Map, Mark, Plot, Reliability, ReportImage, Section, Series,
    };

    #[test]
    fn nothing_of_the_data_becomes_markup_and_nothing_is_fetched() {
        let evil = "<script>alert(1)</script>\"'&";
        let figures = vec![
            Figure::Lines(Plot {
                title: evil.into(),
                x_label: evil.into(),
                series: vec![Series { name: evil.into(), points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)] }],
                marks: vec![Mark { label: evil.into(), x: 1.0 }],
                log_x: false,
            }),
            Figure::Bars(Bars {
                title: evil.into(),
                name: evil.into(),
                references: vec![evil.into()],
                bars: vec![Bar {
                    label: evil.into(),
                    value: -0.5,
                    interval: Some((-0.7, -0.3)),
                    references: vec![Some(0.1)],
                }],
            }),
            Figure::Bands(BandPlot {
                title: evil.into(),
                x_label: evil.into(),
                lines: vec![BandLine { name: evil.into(), points: vec![(0.0, 1.0, 0.5), (1.0, f64::NAN, 0.0)] }],
            }),
            Figure::Effects(Effects {
                title: evil.into(),
                rows: vec![EffectRow { label: evil.into(), value: 0.2, interval: Some((-0.1, 0.5)), stands: true }],
            }),
            Figure::Reliability(Reliability {
                title: evil.into(),
                bins: vec![Bin::default(), Bin { count: 3, confidence: 0.7, accuracy: 0.6 }],
            }),
            Figure::Map(Map { title: evil.into(), classes: vec![(evil.into(), vec![(0.0, 1.0), (2.0, 3.0)])] }),
            Figure::Table(Table { headings: vec![evil.into()], rows: vec![vec![evil.into()]] }),
            Figure::Text(evil.into()),
            Figure::Images(vec![ImageRow {
                images: vec![ReportImage {
                    title: evil.into(),
                    png: vec![1, 2],
                    parameters: vec![(evil.into(), evil.into())],
                    correct: Some(false),
                }],
            }]),
        ];
        let page = render(&ReportData {
            title: evil.into(),
            summary: evil.into(),
            facts: vec![(evil.into(), evil.into())],
            sections: vec![Section::new(evil, figures)],
            recipe: evil.into(),
            notices: vec![evil.into()],
            ..Default::default()
        });
        assert!(!page.contains("<script") && !page.contains("NaN"));
        assert!(!page.contains("http:") && !page.contains("https:"));
        assert_eq!(page.matches("<svg").count(), 6);
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn measures_of_the_untrained_network_and_the_baseline_become_a_chart() {
        let row = |untrained, baseline| ResultRow {
            task: "birds".into(),
            metric: "top-1 accuracy".into(),
            value: 0.25,
            untrained,
            baseline,
            chance: Some(0.05),
            ..ResultRow::default()
        };
        let page =
            |untrained, baseline| render(&ReportData { results: vec![row(untrained, baseline)], ..Default::default() });
        let bars = |page: &str| page.matches("<rect").count();
        assert!(page(Some(0.125), None).contains("At a glance"));
        assert_eq!([bars(&page(Some(0.125), None)), bars(&page(Some(0.125), Some(0.2)))], [3, 4]);
        assert!(!page(None, None).contains("<svg"));
    }
}
