"""Teaching a model further organs: projects, annotated cases, trainings and their reports, without Qt."""
