// Wires up what the server has rendered. Everything can be read without it.
import { startKeys } from "./keys.js";
import { startDrawer } from "./drawer.js";
import { startProof } from "./proof.js";
import { startVerify } from "./verify.js";
import { startFresh } from "./fresh.js";
import { startExport } from "./export.js";
import { startChart } from "./chart.js";
import { startCompletion } from "./completion.js";
import { startExcludes } from "./excludes.js";
import { startSaved } from "./saved.js";
import { startGraph } from "./graph.js";
import { showZones, startCopy } from "./details.js";

showZones(document);
startCopy();
startKeys();
startProof();
startDrawer();
startVerify();
startFresh();
startExport();
startChart();
startCompletion();
startExcludes();
startSaved();
startGraph();
document.documentElement.dataset.ready = "yes";
