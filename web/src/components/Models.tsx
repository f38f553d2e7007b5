import { useCallback, useEffect, useState } from "react";
import { api, type Job, type ModelState, type Run, type TrainingState } from "../api";
import { useWork, type Work } from "../useWork";
import { DeleteDialog } from "./Dialog";
import { Notice } from "./Notice";

const LOOK_EVERY_MS = 1000;

/** What was trained here, what is being trained, and which of it new conversations get. */
export function Models() {
  const [training, setTraining] = useState<TrainingState | null>(null);
  const [runs, setRuns] = useState<Run[]>([]);
  const [model, setModel] = useState<ModelState | null>(null);
  const [doomed, setDoomed] = useState<Run | null>(null);
  const fetched = useCallback(async () => {
    const [state, list, now] = await Promise.all([api.training(), api.runs(), api.model()]);
    setTraining(state);
    setRuns(list);
    setModel(now);
  }, []);
  const work = useWork(fetched);
  const { busy, error, load, act } = work;
  const job = training?.job ?? null;
  const isTraining = job?.standing === "running" || job?.standing === "stopping";
  useEffect(() => {
    void load();
    if (!isTraining) return;
    const timer = setInterval(() => void load(), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, [load, isTraining]);
  return (
    <main id="main" className="sheet wide">
      <h1>Models</h1>
      <Notice>{error}</Notice>
      {model && (
        <p>
          New conversations use <strong>{model.model}</strong>. One that goes on keeps the model with which it began.{" "}
          {model.run !== null && (
            <button
              type="button"
              disabled={busy !== null}
              onClick={() => act(`Going back to ${model.first_model} …`, api.switchModel(null))}
            >
              Go back to {model.first_model}
            </button>
          )}
        </p>
      )}
      {training && !training.possible && (
        <p>This server cannot train. Start it with --record FOLDER, and without --ray.</p>
      )}
      {job && <Progress job={job} onStop={() => act("Stopping …", api.stopTraining())} />}
      {busy && <p role="status">{busy}</p>}
      {training?.possible && runs.length === 0 && (
        <p>
          Nothing was trained here yet. Choose sessions in <a href="#recordings">Recordings</a>.
        </p>
      )}
      <ul className="recordings">
        {runs.map((run) => (
          <RunItem
            key={run.id}
            run={run}
            inUse={model?.run === run.id}
            isTrained={isTraining && job?.run === run.id}
            canTrain={!isTraining}
            work={work}
            onDelete={() => setDoomed(run)}
          />
        ))}
      </ul>
      {doomed && (
        <DeleteDialog
          title={`Delete ${doomed.id}?`}
          onDelete={() => act("Deleting …", api.removeRun(doomed.id))}
          onClose={() => setDoomed(null)}
        >
          The model and what was found out about it go at once. The recordings that it was trained on stay.
        </DeleteDialog>
      )}
    </main>
  );
}

interface RunProps {
  run: Run;
  inUse: boolean;
  /** It is being trained now. */
  isTrained: boolean;
  /** No other is. */
  canTrain: boolean;
  work: Work;
  onDelete: () => void;
}

function RunItem({ run, inUse, isTrained, canTrain, work: { busy, act }, onDelete }: RunProps) {
  const [shown, setShown] = useState(false);
  return (
    <li>
      <h2>{run.id}</h2>
      <p className="small">{described(run)}</p>
      {run.words && <p>{run.held_out === 1 ? ONE_HELD_OUT : run.words}</p>}
      <p className="row">
        {run.trained && !inUse && (
          <button
            type="button"
            disabled={busy !== null}
            onClick={() => act(`Loading ${run.id} …`, api.switchModel(run.id))}
          >
            Use for new conversations
          </button>
        )}
        {run.report && (
          <button type="button" aria-expanded={shown} onClick={() => setShown(!shown)}>
            {shown ? "Close the report" : "Report"}
          </button>
        )}
        {run.can_go_on && (
          <button
            type="button"
            disabled={busy !== null || !canTrain}
            onClick={() => act("Going on …", api.goOn(run.id))}
          >
            Go on
          </button>
        )}
        {!inUse && !isTrained && (
          <button type="button" className="danger" disabled={busy !== null} onClick={onDelete}>
            Delete
          </button>
        )}
      </p>
      {shown && (
        <iframe
          className="report"
          title={`Report of ${run.id}`}
          sandbox="allow-scripts"
          src={api.reportAddress(run.id)}
        />
      )}
    </li>
  );
}

const ONE_HELD_OUT =
  "Nobody can tell whether it uses the face: one recording alone was kept from training. Record more, and train on all of them.";

const STAGES: Record<Job["stage"], string> = {
  extract: "Reading the faces",
  align: "Putting words and faces on one time line",
  train: "Training",
  eval: "Finding out whether the face is used",
};

function Progress({ job, onStop }: { job: Job; onStop: () => void }) {
  if (job.standing === "failed")
    return (
      <Notice>
        {job.run} broke off: {job.error}
      </Notice>
    );
  if (job.standing === "done") return <p role="status">{job.run} is ready.</p>;
  if (job.standing === "stopped") return <p role="status">{job.run} was stopped; it can go on where it was.</p>;
  const known = job.total > 0;
  const left = job.left_s === null ? "" : `, about ${Math.max(1, Math.ceil(job.left_s / 60))} min left`;
  return (
    <section className="train" aria-label="Training under way">
      <label htmlFor="progress">
        {job.run}: {STAGES[job.stage]}
        {known ? `, ${job.done} of ${job.total}` : ""}
        {left}
      </label>
      <progress id="progress" max={known ? job.total : undefined} value={known ? job.done : undefined} />
      <p className="row">
        <button type="button" className="stop" disabled={job.standing === "stopping"} onClick={onStop}>
          {job.standing === "stopping" ? "Stopping after this step …" : "Stop"}
        </button>
      </p>
    </section>
  );
}

function described(run: Run): string {
  const made = new Date(1000 * run.made_s).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  const sessions = `${run.sessions} ${run.sessions === 1 ? "session" : "sessions"}`;
  if (!run.trained) return `${made}, ${sessions}, not finished`;
  if (run.held_out === 0)
    return `${made}, ${sessions}, none kept from training: nobody can tell whether it uses the face`;
  return `${made}, ${sessions}, ${run.held_out} of them kept from training`;
}
