/** The report of a drill as one HTML page that needs nothing else: no scripts, fonts or styles from elsewhere. Pure. */
import { drillRows } from "./figures";
import { type Drill, type DrillHandover, scriptSpan } from "./record";
import { escapeXml, secondsText, timeline, type View } from "./timeline";

const style = `
:root { color-scheme: light dark; --ink: #1d2733; --dim: #66717d; --paper: #fff; --rule: #d9dee3; --grid: #e6eaee; --shade: #f1f4f7;
  --region1: #2b6cb0; --region2: #dd8a1b; --both: #2f9e77; --nobody: #c9302c; --good: #1f8a5b; --bad: #c9302c; --step: #6b5ca5; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe6ee; --dim: #93a0ad; --paper: #12181f; --rule: #2c3743; --grid: #232d37;
  --shade: #1a222b; --region1: #5b9be0; --region2: #eba33f; --both: #46bd93; --nobody: #ea5a55; --good: #46bd93; --bad: #ea5a55; --step: #9d8fd6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 60px; max-width: 1280px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 40px 0 6px; }
p { margin: 4px 0; }
.dim { color: var(--dim); }
.verdict { margin: 16px 0; padding: 10px 14px; border-left: 5px solid var(--good); background: var(--shade); }
.verdict.wrong { border-color: var(--bad); }
.verdict ul { margin: 4px 0; padding-left: 20px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: right; font-weight: 600; color: var(--dim); font-size: 12.5px; vertical-align: bottom; }
td { text-align: right; white-space: nowrap; }
th, td { padding: 5px 9px; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.bad { color: var(--bad); font-weight: 600; }
tr.aside td { color: var(--dim); }
svg { display: block; width: 100%; min-width: 900px; height: auto; margin-top: 6px; }
svg text { font-family: inherit; fill: var(--ink); }
.lane { font-size: 12.5px; font-weight: 600; }
.tick { font-size: 10.5px; fill: var(--dim); }
.small { font-size: 11px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.shade { fill: var(--shade); }
.band { fill: var(--grid); } .band.failed { fill: var(--bad); }
.step { fill: var(--step); } .step.other { fill-opacity: .55; }
.region1 { fill: var(--region1); } .region2 { fill: var(--region2); } .both { fill: var(--both); } .nobody { fill: var(--nobody); }
.half { fill-opacity: .6; } .withdrawn { fill-opacity: .25; }
.area { fill-opacity: .75; }
.heat0 { fill-opacity: .22; } .heat1 { fill-opacity: .4; } .heat2 { fill-opacity: .6; } .heat3 { fill-opacity: .8; } .heat4 { fill-opacity: 1; }
.slow circle { fill: var(--ink); } .slow .span { stroke: var(--ink); stroke-width: .8; stroke-opacity: .6; }
.unanswered circle { fill: var(--bad); } .unanswered .span { stroke: var(--bad); }
.standby { stroke: var(--dim); stroke-width: .8; stroke-dasharray: 2 2; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 12.5px; color: var(--dim); margin: 8px 0 0; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; vertical-align: -1px; background: currentColor; }
.legend .k1 { color: var(--region1); } .legend .k2 { color: var(--region2); } .legend .kb { color: var(--both); }
.legend .kn { color: var(--nobody); } .legend .ks { color: var(--step); } .legend .kw { color: var(--region1); opacity: .3; }
.legend .km { background: none; border: 1px dashed var(--dim); } .legend .kl { color: var(--ink); height: 2px; vertical-align: 4px; }
.legend .ku { color: var(--grid); }
`;

/** Time around a handover's script that is drawn with it, in milliseconds. */
const around = 2_500;

const milliseconds = (value: number) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

const header = [
  ["", "part of the drill"],
  ["script", "from the first line of the handover's script to the end of its last step"],
  ["npm run up", "the whole command, previews and both stacks included"],
  ["steps", "steps of the handover"],
  ["commands", "commands that changed the cluster"],
  ["calls", "calls that were under way at some time in it"],
  ["a second", "answers a second"],
  ["p50", "half of the calls took no longer"],
  ["p99", "99 of 100 calls took no longer"],
  ["slowest", "the slowest call, from its first attempt to its answer"],
  ["longest silence", "longest time between two answers, whoever they went to"],
  ["sent again", "calls that were sent more than once"],
  ["no answer", "calls that were given up without an answer"],
  ["lost", "acknowledged calls that are not in the state"],
  ["doubled", "calls that are in the state more than once"],
] as const;

function figureTable(drill: Drill): string {
  const cell = (content: string, bad = false) => `<td${bad ? ' class="bad"' : ""}>${escapeXml(content)}</td>`;
  const rows = drillRows(drill).map((row) => {
    const { figures } = row;
    const cells = [
      cell(row.name),
      cell(row.seconds === undefined ? (row.problem ? "not done" : "") : `${row.seconds.toFixed(1)} s`, !!row.problem),
      cell(row.upSeconds === undefined ? "" : `${row.upSeconds.toFixed(1)} s`),
      cell(row.steps === undefined ? "" : String(row.steps)),
      cell(row.commands === undefined ? "" : String(row.commands)),
      cell(String(figures.calls)),
      cell(figures.perSecond.toFixed(0)),
      ...[figures.p50, figures.p99, figures.slowest, figures.longestSilence].map((value) => cell(milliseconds(value))),
      cell(String(figures.retried)),
      cell(String(row.unanswered)),
      cell(String(row.lost), row.lost > 0),
      cell(String(row.doubled), row.doubled > 0),
    ];
    return `<tr${row.upSeconds === undefined ? ' class="aside"' : ""}>${cells.join("")}</tr>`;
  });
  const titles = header.map(([name, meaning]) => `<th title="${meaning}">${name}</th>`).join("");
  return `<div class="scroll"><table><thead><tr>${titles}</tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

const legend = `<div class="legend">
<span><i class="k1"></i>region1</span><span><i class="k2"></i>region2</span><span><i class="kb"></i>records go to both regions</span>
<span><i class="kn"></i>no leader, or the log is sealed</span><span><i class="kw"></i>node withdrawn</span>
<span><i class="km"></i>node not in the metadata store</span><span><i class="ks"></i>step of a handover</span><span><i class="ku"></i>npm run up</span>
<span><i class="kl"></i>a call that took longer than 1 s, from its first attempt to its answer</span></div>`;

function detail(drill: Drill, handover: DrillHandover, number: number): string {
  const title = `<h2>Handover ${number}: ${handover.from} → ${handover.to}</h2>`;
  const span = scriptSpan(handover);
  if (!span) {
    const view: View = { from: handover.began, to: handover.ended, origin: handover.began };
    return `${title}<p class="verdict wrong">${escapeXml(handover.problem ?? "It was not done.")}</p>
<div class="scroll">${timeline(drill, view)}</div>`;
  }
  const view: View = { from: span.from - around, to: span.to + around, origin: span.from, handover };
  const { receipt } = handover;
  const facts =
    `It took ${secondsText(span.to - span.from)} and ${receipt!.changes} commands, run in ${receipt!.ranIn}; ` +
    (receipt!.saved
      ? "snapshots hold all that was written before."
      : "snapshots do not yet hold all that was written before.");
  return `${title}<p class="dim">${escapeXml(facts)} Times count from the script's first line.</p>
<div class="scroll">${timeline(drill, view)}</div>`;
}

/** The page. */
export function drillPage(drill: Drill): string {
  const acknowledged = Math.max(0, ...Object.values(drill.verdicts).map((verdict) => verdict.acknowledged));
  const verdict =
    drill.faults.length === 0
      ? `<div class="verdict"><b>Passed.</b> Every handover was done, and each of ${acknowledged} acknowledged calls is in the state exactly once.</div>`
      : `<div class="verdict wrong"><b>Failed.</b><ul>${drill.faults.map((fault) => `<li>${escapeXml(fault)}</li>`).join("")}</ul></div>`;
  const { machine } = drill;
  const how =
    `${drill.clients} clients called ${drill.accounts} accounts of the practice service without a pause, half of them through each region's ingress; ` +
    "a client that gets no answer within 3 s asks the other region with the same idempotency key. Each handover is a change of " +
    "<code>restate:serving</code> and <code>npm run up</code>. The cluster was looked at every " +
    `${secondsText(drill.interval)}. Everything, Pulumi and the clients included, ran on one machine with ${machine.cores} cores ` +
    `(${escapeXml(machine.model)}; load ${machine.load.toFixed(1)} at the end): latencies compare with the row “before”, not with a real set-up.`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Handover drill of ${new Date(drill.began).toISOString()}</title>
<style>${style}</style>
</head>
<body>
<h1>Handover drill</h1>
<p class="dim">${new Date(drill.began).toISOString().replace("T", " ").slice(0, 19)} UTC, ${secondsText(drill.ended - drill.began)}, Restate ${escapeXml(drill.restateVersion)}, ${drill.samples[0]?.nodes.length ?? 0} nodes, ${drill.samples[0]?.partitions.length ?? 0} partitions</p>
${verdict}
${figureTable(drill)}
<h2>The whole drill</h2>
${legend}
<div class="scroll">${timeline(drill, { from: drill.began, to: drill.ended, origin: drill.began })}</div>
${drill.handovers.map((one, i) => detail(drill, one, i + 1)).join("\n")}
<h2>How this was measured</h2>
<p>${how}</p>
</body>
</html>
`;
}
