//! The HTML page.

use std::fmt::Write;

use super::figures::figures;
use super::results::results;
use super::{Figure, ReportData, Section, escape};

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
.scroll{overflow-x:auto}.plots+.scroll{margin-top:1rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{white-space:nowrap;font-weight:600}td{font-variant-numeric:tabular-nums}
table:not(.results) th{white-space:normal}table:not(.results) td{overflow-wrap:anywhere}table:not(.results) td:first-child{overflow-wrap:break-word}
tr.noted td{border-bottom:0}tr.note td,p.note{color:var(--quiet);font-size:.82rem;padding-top:0}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 2rem}
.beside .plots{grid-template-columns:1fr}.beside+details{margin-top:.6rem}.few figcaption{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.few .row{grid-template-columns:repeat(auto-fit,minmax(min(28%,6rem),1fr))}
dl.definitions{margin:.4rem 0 .8rem;font-size:.88rem;line-height:1.4}dl.definitions div{margin:.3rem 0}
dl.definitions dt{display:inline;color:var(--ink);font-weight:600;margin-right:.6rem}
dl.definitions dd{display:inline;color:var(--quiet)}
.few{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,28rem),1fr));gap:0 2rem}
td.value{font-weight:600}td.value,td.number{white-space:nowrap}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr));gap:.3rem 1.2rem;margin:0}
dl.facts .wide{grid-column:1/-1}dl.facts dt{white-space:nowrap}
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
.row img{width:96px;max-width:100%;aspect-ratio:1;image-rendering:pixelated;background:#fff;border:1px solid var(--line)}
figure.right img{outline:2px solid var(--c2)}figure.wrong img{outline:2px solid var(--c1)}
.row dl{margin:.3rem 0 0;font-size:.82rem;line-height:1.4}.row dt{display:inline;margin-right:.4rem}.row dd{display:inline}
pre{background:var(--band);padding:.8rem;overflow-x:auto;font-size:.82rem;line-height:1.4}
pre.notice{white-space:pre-wrap}
@media(max-width:40rem){pre.next{white-space:pre-wrap;overflow-wrap:anywhere}}
@media(max-width:40rem){thead{display:none}table,tbody,tr,td{display:block}
  tr{padding:.5rem 0;border-bottom:1px solid var(--line)}
td{display:flex;gap:1rem;justify-content:space-between;border:0;padding:.1rem 0;text-align:right}
td.value,td.number{white-space:normal}td.none{display:none}svg{overflow:visible}svg text{font-size:13px}
td::before{content:attr(data-label);color:var(--quiet);text-align:left;flex:none;max-width:45%}}
summary h2{display:inline-block}summary{cursor:pointer}.print-only{display:none}
@media print{pre.next{white-space:pre-wrap}.print-only{display:block}:root{font-size:11px}.scroll{overflow:visible}th,td.value,td.number{white-space:normal}
  th,td{padding:.2rem .5rem}details:not(.printed){display:none}.printed summary{list-style:none}
  details::details-content{content-visibility:visible;block-size:auto}body{max-width:none;padding:0;font-size:1rem;line-height:1.35}
  h2{break-after:avoid;margin-top:1rem}figure,.row,tr{break-inside:avoid}tr.noted{break-after:avoid}
  .results:has(tr:nth-child(41)) tr.note{display:none}.results:has(tr:nth-child(41)) tr.noted td{border-bottom:1px solid var(--line)}
  .plots,.few,.beside:has(>:nth-child(2)){grid-template-columns:1fr 1fr}.few{gap:0 1rem}
  .plots:has(figure:nth-child(3)){grid-template-columns:repeat(3,1fr)}
  .row{grid-template-columns:repeat(auto-fit,minmax(6rem,1fr));gap:.5rem;padding:.4rem 0}
  .row img{width:64px}}
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
    if !data.next.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(body, "<p>Next:</p><pre class=\"next\">{}</pre>", escape(&data.next.join("\n")));
    }
    data.lead.iter().for_each(|one| section(&mut body, &one.title, &figures(&one.figures)));
    section(&mut body, "Results", &results(&data.results, has_chart(&data.sections)));
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

fn has_chart(sections: &[Section]) -> bool {
    sections.iter().flat_map(|one| &one.figures).any(|figure| matches!(figure, Figure::Bars(_)))
}

/// A section that opens on a click, and is left out of print.
fn folded(body: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(body, "<details><summary><h2>{}</h2></summary>{content}</details>", escape(title));
    }
}

/// Number of characters of a fact above which it has a line of its own.
const LONG_FACT: usize = 28;

fn facts(facts: &[(String, String)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let fact = |(name, value): &(String, String)| {
        let class = if value.chars().count() > LONG_FACT { " class=\"wide\"" } else { "" };
        format!("<div{class}><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
    };
    format!("<dl class=\"facts\">{}</dl>", facts.iter().map(fact).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::Bin;
    use crate::report::{
        BandLine, BandPlot, Bar, Bars, EffectRow, Effects, ImageRow, Map, Mark, Plot, Reliability, ReportImage, Series,
        Table,
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
                decimals: 1,
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
}
