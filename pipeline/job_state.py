"""What a job server says of a job that another process has submitted to it."""

from __future__ import annotations

LOST = ("FAILED", "CANCELLED")  #: States from which no job comes back.
SECONDS = 10.0  #: That a job server may take to answer.


def job_state(endpoint: str, job: str) -> str:
    """Ask a job server how a job stands.

    Parameters
    ----------
    endpoint : str
        ``HOST:PORT`` of the server, as its submitter reached it.
    job : str
        The server's name of the job.

    Returns
    -------
    str
        Beam's name of the state, such as ``"RUNNING"``; empty where the server is not reached or does not know the job:
        that is no sign that the job has ended.
    """
    from pipeline.lean import import_beam

    import_beam()
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2 as messages
    from apache_beam.portability.api import beam_job_api_pb2_grpc as services

    with grpc.insecure_channel(endpoint) as channel:
        try:
            answer = services.JobServiceStub(channel).GetState(messages.GetJobStateRequest(job_id=job), timeout=SECONDS)
        except grpc.RpcError:
            return ""
    return str(messages.JobState.Enum.Name(answer.state))
