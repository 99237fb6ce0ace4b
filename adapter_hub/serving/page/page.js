"use strict";
// The page of a server: it speaks to the same API as every other client.

const part = (id) => document.getElementById(id);
let recording = null; // the file or the take that is sent
let recorder = null;

function headers() {
  return part("key").value ? { Authorization: `Bearer ${part("key").value}` } : {};
}

function tell(state) {
  part("state").textContent = state;
}

function fail(message) {
  part("error").textContent = message;
  part("error").hidden = !message;
  if (message) tell("");
}

async function listModels() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (answer.status === 401) {
    part("key-row").hidden = false;
    tell("This server asks for a key.");
    return;
  }
  const models = (await answer.json()).data;
  const chosen = part("model").value || "auto";
  part("model").replaceChildren(
    ...models.map((model) => {
      const languages = (model.languages || []).join(", ");
      const option = new Option(languages ? `${model.id} (${languages})` : model.id, model.id);
      option.selected = model.id === chosen;
      return option;
    }),
  );
  tell("");
}

function choose(file) {
  recording = file;
  part("chosen").textContent = file ? `${file.name} (${(file.size / 1e6).toFixed(2)} MB)` : "";
  part("send").disabled = !file;
  fail("");
}

// Recordings are sent as WAV, which every server reads, whatever the browser records in.
async function asWave(blob) {
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  await context.close();
  const rate = 16000;
  const offline = new OfflineAudioContext(1, Math.max(1, Math.ceil(sound.duration * rate)), rate);
  const source = offline.createBufferSource();
  source.buffer = sound;
  source.connect(offline.destination);
  source.start();
  const samples = (await offline.startRendering()).getChannelData(0);
  const view = new DataView(new ArrayBuffer(44 + samples.length * 2));
  const write = (place, text) => [...text].forEach((c, i) => view.setUint8(place + i, c.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + samples.length * 2, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, samples.length * 2, true);
  samples.forEach((s, i) => view.setInt16(44 + i * 2, Math.max(-1, Math.min(1, s)) * 32767, true));
  return new File([view.buffer], "recording.wav", { type: "audio/wav" });
}

async function record() {
  if (recorder) {
    recorder.stop();
    return;
  }
  fail("");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    fail(`The microphone cannot be used: ${error.message}`);
    return;
  }
  const pieces = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => pieces.push(event.data);
  recorder.onstop = async () => {
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    part("record").textContent = "Record";
    part("record").classList.remove("on");
    try {
      choose(await asWave(new Blob(pieces)));
      tell("");
      await send();
    } catch (error) {
      fail(`The recording cannot be used: ${error.message}`);
    }
  };
  recorder.start();
  part("record").textContent = "Stop";
  part("record").classList.add("on");
  tell("Recording…");
}

function show(result) {
  const seconds = result.duration === undefined ? "" : `${result.duration.toFixed(1)} s, `;
  part("facts").textContent = `${seconds}${result.language || ""}, ${result.adapter || ""}`;
  part("text").textContent = result.text;
  part("segments").tBodies[0].replaceChildren(
    ...(result.segments || []).map((segment) => {
      const row = document.createElement("tr");
      for (const value of [segment.start.toFixed(2), segment.end.toFixed(2), segment.text, segment.adapter]) {
        row.insertCell().textContent = value;
      }
      return row;
    }),
  );
  part("result").hidden = false;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const line = event.split("\n").find((each) => each.startsWith("data: "));
      if (line) yield JSON.parse(line.slice(6));
    }
  }
}

async function send() {
  if (!recording) return;
  const task = part("task").value;
  const form = new FormData();
  form.append("model", part("model").value);
  form.append("response_format", "verbose_json");
  if (task === "transcriptions") {
    form.append("stream", "true");
    if (part("language").value.trim()) form.append("language", part("language").value.trim());
  }
  form.append("file", recording, recording.name);
  fail("");
  part("send").disabled = true;
  part("result").hidden = true;
  tell("Transcribing…");
  try {
    const answer = await fetch(`v1/audio/${task}`, { method: "POST", body: form, headers: headers() });
    if (!answer.ok) {
      fail((await answer.json()).error.message);
    } else if (task === "translations") {
      show(await answer.json());
    } else {
      let text = "";
      for await (const event of events(answer)) {
        if (event.error) fail(event.error.message);
        else if (event.type === "transcript.text.delta") show({ text: (text += event.delta) });
        else show(event);
      }
    }
    tell("");
  } catch (error) {
    fail(`No answer from the server: ${error.message}`);
  } finally {
    part("send").disabled = false;
  }
}

part("file").addEventListener("change", () => choose(part("file").files[0]));
part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
part("record").addEventListener("click", record);
part("record").hidden = !(navigator.mediaDevices && window.MediaRecorder);
part("key").addEventListener("change", () => listModels().catch((error) => fail(error.message)));
for (const kind of ["dragover", "dragleave", "drop"]) {
  part("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    part("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
listModels().catch((error) => fail(`No answer from the server: ${error.message}`));
