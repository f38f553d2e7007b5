import { type ReactNode, useLayoutEffect, useRef } from "react";
import { focusContent } from "../focus";

/** A modal dialog of the browser's own: keeps the focus, closes on Escape, gives the focus back. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
  const box = useRef<HTMLDialogElement>(null);
  // Before React removes it: a dialog that is gone gives no focus back.
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (document.activeElement === document.body) focusContent();
    };
  }, []);
  return (
    <dialog
      ref={box}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}

interface DeleteProps {
  title: string;
  onDelete: () => void;
  onClose: () => void;
  children: ReactNode;
}

/** Asks before something goes for good. */
export function DeleteDialog({ title, onDelete, onClose, children }: DeleteProps) {
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{children}</p>
      <p className="row end">
        <button type="button" onClick={onClose}>
          Keep it
        </button>
        <button
          type="button"
          className="danger"
          onClick={() => {
            onDelete();
            onClose();
          }}
        >
          Delete
        </button>
      </p>
    </Dialog>
  );
}
