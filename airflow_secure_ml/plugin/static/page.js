// Wires up what the server has rendered. Everything can be read without it.
import { startKeys } from "./keys.js";
import { startDrawer } from "./drawer.js";
import { startProof } from "./proof.js";
import { startVerify } from "./verify.js";
import { startFresh } from "./fresh.js";
import { showZones, startCopy } from "./details.js";

showZones(document);
startCopy();
startKeys();
startProof();
startDrawer();
startVerify();
startFresh();
document.documentElement.dataset.ready = "yes";
