/** One explained beat of the server's `/api/boards/BOARD/beat`, and its picture over the patient's usual beat. */
import { blankSheet } from "./elements.js";
import { partName, points } from "./words.js";

const CLASSES = ["N", "S", "V", "F"];
const ANSWERS = ["S", "V", "F"]; // N is not explained
const MOST_POINTS = 200;
const MOST_HEIGHTS = 10;
const LEAST_SCALE = 50; // points that fill a bar: where all reasons are weak, none looks strong
const GRID_MS = 200;

const finite = (value, least, most) => typeof value === "number" && value >= least && value <= most;
const whole = (value, least, most) => Number.isInteger(value) && finite(value, least, most);
const word = (value, most) => typeof value === "string" && value.length > 0 && value.length <= most;
const lead = (value) => Array.isArray(value) && value.length > 1 && value.length <= 1000 && value.every((height) => finite(height, -MOST_HEIGHTS, MOST_HEIGHTS));

function isReason(reason) {
  const edges = reason?.edges_ms;
  const stretch = edges === null || (Array.isArray(edges) && edges.length === 2 && edges.every((edge) => finite(edge, -5000, 5000)) && edges[0] < edges[1]);
  return Boolean(reason) && word(reason.name, 40) && word(reason.words, 300) && finite(reason.points, -MOST_POINTS, MOST_POINTS) && stretch;
}

/** The beat, or null where the answer is none: a wrong reason is worse than no reason. */
export function parseBeat(body) {
  let beat;
  try {
    beat = JSON.parse(body);
  } catch {
    return null;
  }
  const sound = beat && whole(beat.number, 0, 2 ** 53) && ANSWERS.includes(beat.answer) && word(beat.model, 40)
    && whole(beat.version, 1, 2 ** 32) && finite(beat.age_ms, 0, 2 ** 53)
    && CLASSES.every((name) => finite(beat.probabilities?.[name], 0, 1))
    && finite(beat.start_points, -MOST_POINTS, MOST_POINTS) && finite(beat.lead_points, -MOST_POINTS, MOST_POINTS)
    && whole(beat.fs_hz, 1, 1000) && finite(beat.first_ms, -5000, 0)
    && lead(beat.beat) && lead(beat.usual) && beat.beat.length === beat.usual.length
    && Array.isArray(beat.reasons) && beat.reasons.length > 0 && beat.reasons.length <= 16 && beat.reasons.every(isReason)
    && new Set(beat.reasons.map((reason) => reason.name)).size === beat.reasons.length;
  if (!sound) return null;
  return {
    number: beat.number, answer: beat.answer, model: beat.model, version: beat.version, ageMs: beat.age_ms,
    probabilities: CLASSES.map((name) => [name, beat.probabilities[name]]),
    startPoints: beat.start_points, leadPoints: beat.lead_points,
    fsHz: beat.fs_hz, firstMs: beat.first_ms, beat: beat.beat, usual: beat.usual,
    reasons: beat.reasons.map(({ name, words, points, edges_ms: edges }) => ({ name, words, points, edges })),
  };
}

/** How much of a bar each reason fills, -1 to 1; negative where it speaks against the answer. */
export function strengths(reasons) {
  const scale = Math.max(LEAST_SCALE, ...reasons.map((reason) => Math.abs(reason.points)));
  return reasons.map((reason) => reason.points / scale);
}

/**
 * Draws `beat` over the usual one. Stretches are shaded for (`--for`) or against (`--against`, hatched) the answer, and
 * labelled; a line every 200 ms from the R peak. Colours are the canvas's.
 */
export function drawBeat(canvas, beat) {
  const sheet = blankSheet(canvas);
  if (!sheet || !beat) return;
  const { context, width, height, ratio } = sheet;
  const style = getComputedStyle(canvas);
  const spanMs = (1000 * (beat.beat.length - 1)) / beat.fsHz;
  const x = (ms) => (width * (ms - beat.firstMs)) / spanMs;
  const top = 32 * ratio;
  const heights = [...beat.beat, ...beat.usual];
  const [low, high] = [Math.min(-0.4, ...heights), Math.max(1, ...heights)];
  const y = (value) => top + ((height - top - 5 * ratio) * (high - value)) / (high - low);

  context.strokeStyle = style.borderTopColor;
  context.lineWidth = ratio;
  context.beginPath();
  for (let ms = Math.ceil(beat.firstMs / GRID_MS) * GRID_MS; ms < beat.firstMs + spanMs; ms += GRID_MS) {
    context.moveTo(x(ms), top);
    context.lineTo(x(ms), height);
  }
  context.stroke();

  const filled = strengths(beat.reasons);
  beat.reasons.forEach((reason, index) => {
    if (reason.edges) drawStretch(context, { reason, filled: filled[index], from: x(reason.edges[0]), to: x(reason.edges[1]), height, ratio, style });
  });
  drawLead(context, beat.usual, { x, y, beat, colour: style.getPropertyValue("--usual"), thick: 3.5 * ratio });
  drawLead(context, beat.beat, { x, y, beat, colour: style.color, thick: 1.6 * ratio });
}

function drawStretch(context, { reason, filled, from, to, height, ratio, style }) {
  const colour = style.getPropertyValue(filled < 0 ? "--against" : "--for");
  context.save();
  context.beginPath();
  context.rect(from + ratio, 0, to - from - 2 * ratio, height);
  context.clip();
  context.globalAlpha = 0.06 + 0.44 * Math.abs(filled);
  context.fillStyle = context.strokeStyle = colour;
  if (filled < 0) {
    context.lineWidth = 2 * ratio;
    context.beginPath();
    for (let start = from - height; start < to; start += 6 * ratio) {
      context.moveTo(start, height);
      context.lineTo(start + height, 0);
    }
    context.stroke();
  } else context.fillRect(from, 0, to - from, height);
  context.restore();

  context.fillStyle = style.color;
  context.font = `${11 * ratio}px ${style.fontFamily}`;
  context.textAlign = "center";
  context.fillText(partName(reason.name), (from + to) / 2, 13 * ratio);
  context.fillText(points(reason.points), (from + to) / 2, 27 * ratio);
}

function drawLead(context, values, { x, y, beat, colour, thick }) {
  context.strokeStyle = colour;
  context.lineWidth = thick;
  context.lineJoin = "round";
  context.beginPath();
  values.forEach((value, index) => {
    const ms = beat.firstMs + (1000 * index) / beat.fsHz;
    if (index) context.lineTo(x(ms), y(value));
    else context.moveTo(x(ms), y(value));
  });
  context.stroke();
}
