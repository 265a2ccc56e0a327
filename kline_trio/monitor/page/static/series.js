export class SeriesView { show() {} update() {} add() {} leave() {} }
