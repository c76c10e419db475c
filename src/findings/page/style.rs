//! Owns how the page of an audit looks: on a desk and a phone, in light and dark, on paper. Must not
//! know: what is shown.

/// Adds to the style that all pages have.
pub(super) const STYLE: &str = "
:root{--good:#1a7f37;--bad:#bc4c00;--tint:#fff1e5}
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#f0883e;--tint:#33230f;color-scheme:dark}}
*{box-sizing:border-box}body{max-width:70rem;margin:0 auto;padding:2.2rem 1.2rem 3rem;overflow-wrap:anywhere}
header h1{font-size:2rem;line-height:1.15;margin:.1rem 0 .4rem;letter-spacing:-.02em}
.kick{margin:0;color:var(--c0);font-size:.8rem;font-weight:650;letter-spacing:.09em;text-transform:uppercase}
.lead{font-size:1.1rem;color:var(--soft);margin:0 0 1.5rem;max-width:48rem}
section{margin-top:3rem}section>h2,h2{font-size:1.35rem;letter-spacing:-.01em;margin:0 0 .3rem}h3{font-size:1.05rem;margin:1.6rem 0 .5rem}
h2 .n,h3 .n{color:var(--soft);font-weight:400;margin-left:.35rem;font-variant-numeric:tabular-nums}
section>p{max-width:48rem;margin:.2rem 0 .9rem}a{color:var(--c0);text-underline-offset:.15em}a:focus-visible,summary:focus-visible{outline:3px solid var(--c0);outline-offset:2px;border-radius:6px}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:.75rem;margin:0;padding:0;list-style:none}
.tile{display:block;height:100%;background:var(--card);border:1px solid var(--line);border-left:4px solid var(--k,var(--line));border-radius:10px;padding:.7rem .9rem;text-decoration:none;color:inherit}
a.tile:hover{border-color:var(--k)}.zero b{color:var(--soft);font-weight:400}.tile b{display:block;font-size:1.7rem;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}.tile span{display:block;color:var(--soft);font-size:.85rem;line-height:1.35}
.todo{margin:.6rem 0 0;padding:0;list-style:none;max-width:54rem}.todo li{padding:.65rem 0;border-top:1px solid var(--line)}.todo li:last-child{border-bottom:1px solid var(--line)}
.todo p{margin:.1rem 0 0;color:var(--soft)}code{font:.92em ui-monospace,SFMono-Regular,Menlo,monospace;background:var(--card);border:1px solid var(--line);border-radius:5px;padding:.05rem .3rem;white-space:nowrap}
.notes{border-left:4px solid var(--line);padding:.1rem 0 .1rem 1rem;margin:1rem 0;color:var(--soft);max-width:52rem}.notes p{margin:.35rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,16.5rem),1fr));grid-auto-flow:dense;gap:.9rem;align-items:start}
.card2{border:1px solid var(--line);background:var(--card);border-radius:12px;padding:.75rem;break-inside:avoid}
@media(min-width:40rem){.s2{grid-column:span 2}.s3{grid-column:1/-1}}
.strip{display:flex;flex-wrap:wrap;gap:.65rem}figure{margin:0;flex:0 0 7.2rem;width:7.2rem;break-inside:avoid}.card2 .strip figure{flex:1 1 6.4rem;max-width:10.4rem}.card2 .same figure{flex:0 0 6.2rem;width:6.2rem}
.shot{position:relative;display:block;width:100%;aspect-ratio:1;border-radius:8px;background:var(--paper);border:1px solid var(--line);overflow:hidden}
.shot img{display:block;width:100%;height:100%;object-fit:contain}.shot .px{image-rendering:pixelated}.none{display:flex;align-items:center;justify-content:center;color:var(--soft);font-size:.8rem;text-align:center;padding:.4rem}
.kept .shot{border:2px solid var(--good)}figcaption{font-size:.8rem;line-height:1.35;margin-top:.35rem}figcaption>span:not(.tag){display:block}figcaption small,.soft{color:var(--soft)}figcaption small{display:block;font-size:.8rem}
.tag{display:inline-block;border-radius:9px;padding:0 .5rem;font-size:.75rem;line-height:1.5;font-weight:600;border:1px solid var(--line);background:var(--paper);color:var(--soft);margin:0 .25rem .15rem 0}
.tag.good{color:var(--good);border-color:var(--good)}.tag.bad{color:var(--bad);border-color:var(--bad);background:var(--tint)}
.reasons{display:flex;flex-wrap:wrap;gap:0 2.4rem;align-items:start}.reasons>div{max-width:100%}.reasons p{margin:.1rem 0 .5rem;font-size:.875rem}
.top{font-size:.85rem;margin:0 0 .5rem;color:var(--soft)}.same{display:flex;gap:.75rem}.same ul{list-style:none;margin:0;padding:0;font-size:.8rem;min-width:0}.same li{margin:0 0 .3rem}
.maps{display:flex;flex-wrap:wrap;gap:.5rem 2.4rem}.maps svg{width:15rem;max-width:100%}.maps p{margin:.3rem 0}.maps>div{max-width:100%}summary .n{color:var(--soft);font-weight:400}
details{margin:.9rem 0}summary{cursor:pointer;font-weight:600;padding:.25rem 0}.wide{overflow-x:auto;max-width:100%}.wide table{font-size:.875rem}.wide td{min-width:4.5rem;max-width:32rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,25rem),1fr));gap:1rem 1.2rem;align-items:start}.charts h3{margin-top:.6rem}svg{border:1px solid var(--line);border-radius:10px}svg text{font-size:12.5px}
footer{margin-top:3.5rem;border-top:1px solid var(--line);padding-top:1rem;color:var(--soft);font-size:.875rem}
@media(max-width:48rem){.tiles{grid-template-columns:1fr 1fr}}
@media(max-width:30rem){body{padding:1.4rem .9rem 2rem}header h1{font-size:1.6rem}.strip figure{flex:1 1 6.4rem;max-width:8.6rem}.pair{gap:1rem}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--paper:#fff;--card:#fff;--c0:#0550ae;--c1:#953800;--c2:#116329;--c3:#6639ba;--c4:#99286e;--good:#116329;--bad:#953800;--tint:#fff;color-scheme:light}
body{max-width:none;padding:0;font-size:10.5pt}section{margin-top:1.6rem}a{color:inherit;text-decoration:none}h2,h3,section>p{break-after:avoid}.cards{grid-template-columns:repeat(3,1fr)}
details:not(.long)::details-content{content-visibility:visible;block-size:auto}.wide{overflow:visible}.wide td{min-width:0}tr,li{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
";
